package awa

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// DefaultSchema is the schema that holds the queue unless another is named.
const DefaultSchema = "awa"

// Client calls the functions of one storage schema. It holds no connection and
// no state: copy it, compare it, share it between goroutines. The zero value is
// the client of DefaultSchema.
type Client struct {
	schema string // quoted; empty: DefaultSchema
}

// New returns the client of the schema "awa".
func New() Client { return Client{} }

// WithSchema returns the client of a storage schema of another name. The name is
// taken literally; it is quoted where SQL needs it.
func WithSchema(schema string) Client {
	if schema == DefaultSchema {
		return Client{}
	}
	return Client{schema: pgx.Identifier{schema}.Sanitize()}
}

// Schema returns the name of the storage schema, as WithSchema takes it. It is also
// the channel on which StartWaiting makes others notify.
func (c Client) Schema() string {
	if c.schema == "" {
		return DefaultSchema
	}
	return strings.ReplaceAll(c.schema[1:len(c.schema)-1], `""`, `"`)
}

// prefix is the schema as SQL writes it.
func (c Client) prefix() string {
	if c.schema == "" {
		return DefaultSchema
	}
	return c.schema
}
