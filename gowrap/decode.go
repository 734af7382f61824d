package awa

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// decodeJobs reads the rows of claimColumns and closes them. The claim path is
// the hot one, so values are read from the wire by hand, each copied once.
func decodeJobs(rows pgx.Rows, queue string, expected int) ([]Job, error) {
	defer rows.Close()
	var jobs []Job
	dec := jobDecoder{queue: queue}
	for rows.Next() {
		if jobs == nil {
			jobs = make([]Job, 0, min(max(expected, 1), 1000))
		}
		jobs = append(jobs, Job{})
		if err := dec.decode(&jobs[len(jobs)-1], rows.FieldDescriptions(), rows.RawValues()); err != nil {
			return nil, err
		}
	}
	return jobs, rows.Err()
}

// jobDecoder decodes one row after another. It remembers the last kind, which
// rarely changes within a claim, and keeps the first error.
type jobDecoder struct {
	fields      []pgconn.FieldDescription
	values      [][]byte
	queue, kind string
	types       *pgtype.Map
	err         error
}

func (d *jobDecoder) decode(j *Job, fields []pgconn.FieldDescription, values [][]byte) error {
	d.fields, d.values = fields, values
	j.Receipt = Receipt{
		ReadySlot: int16(d.integer(0)),
		BatchID:   d.integer(1),
		JobID:     d.integer(2),
		RunLease:  d.integer(3),
	}
	j.ID = j.Receipt.JobID
	d.kind = d.text(4, d.kind)
	j.Kind = d.kind
	j.Args = d.json(5)
	j.Queue = d.queue
	j.Priority = int16(d.integer(6))
	j.Attempt = int16(d.integer(7))
	j.MaxAttempts = int16(d.integer(8))
	j.RunAt = d.timestamp(9)
	j.CreatedAt = d.timestamp(10)
	array(d, 11, &j.Tags)
	j.Metadata = d.json(12)
	j.Progress = d.json(13)
	array(d, 14, &j.Errors)
	j.DeadlineAt = d.timestamp(15)
	j.LeaseExpiresAt = d.timestamp(16)
	return d.err
}

func (d *jobDecoder) binary(i int) bool { return d.fields[i].Format == pgx.BinaryFormatCode }

func (d *jobDecoder) fail(i int, err error) {
	if d.err == nil && err != nil {
		d.err = fmt.Errorf("column %s: %w", d.fields[i].Name, err)
	}
}

// integer reads a smallint, integer or bigint; null is 0.
func (d *jobDecoder) integer(i int) int64 {
	v := d.values[i]
	if v == nil {
		return 0
	}
	if d.binary(i) {
		switch len(v) {
		case 8:
			return int64(binary.BigEndian.Uint64(v))
		case 4:
			return int64(int32(binary.BigEndian.Uint32(v)))
		case 2:
			return int64(int16(binary.BigEndian.Uint16(v)))
		}
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	d.fail(i, err)
	return n
}

// text reads a string, and returns previous instead of a copy if it is equal.
func (d *jobDecoder) text(i int, previous string) string {
	if v := d.values[i]; string(v) != previous {
		return string(v)
	}
	return previous
}

// json reads a jsonb value; null is nil.
func (d *jobDecoder) json(i int) json.RawMessage {
	v := d.values[i]
	if v == nil {
		return nil
	}
	if d.binary(i) && len(v) > 0 && v[0] == 1 { // the version of jsonb
		v = v[1:]
	}
	return bytes.Clone(v)
}

// Between the Unix epoch and 2000-01-01, from which PostgreSQL counts.
const postgresEpoch = 946_684_800 * 1_000_000

// timestamp reads a timestamptz; null and infinity are the zero time.
func (d *jobDecoder) timestamp(i int) time.Time {
	v := d.values[i]
	if v == nil {
		return time.Time{}
	}
	if d.binary(i) && len(v) == 8 {
		us := int64(binary.BigEndian.Uint64(v))
		if us == math.MaxInt64 || us == math.MinInt64 {
			return time.Time{}
		}
		return time.UnixMicro(us + postgresEpoch)
	}
	var t pgtype.Timestamptz
	d.scan(i, &t)
	return t.Time
}

// array reads text[] or jsonb[]. An empty one is nil and costs nothing.
func array[T string | json.RawMessage](d *jobDecoder, i int, dst *[]T) {
	v := d.values[i]
	if v == nil || string(v) == "{}" || d.binary(i) && len(v) >= 4 && binary.BigEndian.Uint32(v) == 0 {
		return
	}
	if !d.binary(i) {
		if elements, ok := splitArray(v); ok {
			*dst = make([]T, len(elements))
			for n, e := range elements {
				(*dst)[n] = T(e)
			}
			return
		}
	}
	d.scan(i, dst)
}

// splitArray copies the elements of an array in PostgreSQL's text form. It reports
// false for one that has nulls, dimensions or bounds, which pgx reads, ten times
// as slowly.
func splitArray(v []byte) (elements [][]byte, ok bool) {
	if len(v) < 3 || v[0] != '{' || v[len(v)-1] != '}' {
		return nil, false
	}
	rest := bytes.Clone(v[1 : len(v)-1])
	for {
		var e []byte
		if rest[0] == '"' {
			if e, rest, ok = unquote(rest[1:]); !ok {
				return nil, false
			}
		} else {
			n := bytes.IndexByte(rest, ',')
			if n < 0 {
				n = len(rest)
			}
			e, rest = rest[:n:n], rest[n:]
			if n == 0 || e[0] == '{' || bytes.EqualFold(e, []byte("null")) {
				return nil, false
			}
		}
		elements = append(elements, e)
		if len(rest) == 0 {
			return elements, true
		}
		if rest = rest[1:]; len(rest) == 0 {
			return nil, false
		}
	}
}

// unquote reads to the closing quote, in place, and returns what comes after it.
func unquote(v []byte) (e, rest []byte, ok bool) {
	n := 0
	for i := 0; i < len(v); i++ {
		switch v[i] {
		case '"':
			return v[:n:n], v[i+1:], true
		case '\\':
			if i++; i == len(v) {
				return nil, nil, false
			}
		}
		v[n] = v[i]
		n++
	}
	return nil, nil, false
}

// scan leaves a value to pgx.
func (d *jobDecoder) scan(i int, dst any) {
	if d.types == nil {
		d.types = pgtype.NewMap()
	}
	d.fail(i, d.types.Scan(d.fields[i].DataTypeOID, d.fields[i].Format, d.values[i], dst))
}
