package awa

import (
	"context"
	"encoding/json"
)

// ConfigureStorage changes settings of the storage, by their SQL names: whatever
// json.Marshal makes an object of. A null puts a setting back to its default. It
// returns all settings; an empty object changes none. They are effective at once.
//
// Errors: ErrInvalidArgument.
func (c Client) ConfigureStorage(ctx context.Context, db DBTX, settings any) (json.RawMessage, error) {
	doc, err := required("settings", settings)
	if err != nil {
		return nil, refuse("configure storage", err)
	}
	var all string
	err = c.value("configure_storage").asText().
		document("settings", doc).
		row(ctx, db).Scan(&all)
	return json.RawMessage(all), wrap("configure storage", err)
}
