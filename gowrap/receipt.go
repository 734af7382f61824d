package awa

import (
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// Receipt names one attempt of one job. A claim returns it, every finish takes
// it back, and it is worth nothing once the attempt is closed, by whomever.
// Receipts are comparable and may be stored or sent elsewhere: any session may
// finish an attempt.
type Receipt struct {
	ReadySlot int16
	BatchID   int64
	JobID     int64
	RunLease  int64
}

// String writes the receipt as PostgreSQL writes the composite type.
func (r Receipt) String() string {
	return fmt.Sprintf("(%d,%d,%d,%d)", r.ReadySlot, r.BatchID, r.JobID, r.RunLease)
}

// receiptColumns selects a receipt out of a function that returns a set of them.
const receiptColumns = "f.ready_slot, f.batch_id, f.job_id, f.run_lease"

func scanReceipt(row pgx.CollectableRow) (r Receipt, err error) {
	err = row.Scan(&r.ReadySlot, &r.BatchID, &r.JobID, &r.RunLease)
	return r, err
}

// receiptArray writes receipts as a PostgreSQL array literal.
func receiptArray(receipts []Receipt) string {
	buf := make([]byte, 0, 2+48*len(receipts))
	buf = append(buf, '{')
	for i, r := range receipts {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, `"(`...)
		buf = strconv.AppendInt(buf, int64(r.ReadySlot), 10)
		buf = append(buf, ',')
		buf = strconv.AppendInt(buf, r.BatchID, 10)
		buf = append(buf, ',')
		buf = strconv.AppendInt(buf, r.JobID, 10)
		buf = append(buf, ',')
		buf = strconv.AppendInt(buf, r.RunLease, 10)
		buf = append(buf, `)"`...)
	}
	return string(append(buf, '}'))
}
