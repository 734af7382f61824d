package proof

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/robfig/cron/v3"

	"github.com/awaqueue/awa/internal/pgtest"
)

// The reference for expressions and clock changes.
var cronParser = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// Zones with every kind of clock change: at midnight to both sides of Greenwich,
// by half an hour, several a year, none. Not those that once left out a whole day,
// where the reference never returns.
var cronZones = []string{
	"UTC", "Europe/Berlin", "Europe/London", "Europe/Dublin", "America/New_York", "America/Los_Angeles", "America/St_Johns",
	"America/Sao_Paulo", "America/Havana", "America/Asuncion", "America/Santiago", "America/Caracas", "Asia/Beirut",
	"Asia/Amman", "Asia/Gaza", "Asia/Tehran", "Asia/Kolkata", "Asia/Kathmandu", "Africa/Cairo", "Africa/Casablanca",
	"Africa/Monrovia", "Atlantic/Azores", "America/Scoresbysund", "Antarctica/Troll", "Australia/Lord_Howe",
	"Australia/Adelaide", "Pacific/Chatham", "EST5EDT", "Etc/GMT+12",
}

// cronFire is one question, and its answer by the reference.
type cronFire struct {
	cron, zone string
	after      time.Time
	want       time.Time // zero: never
}

func (f cronFire) String() string {
	return fmt.Sprintf("%q in %s after %s", f.cron, f.zone, f.after.Format(time.RFC3339Nano))
}

// randomField is a field of a cron expression with values from low to high.
func randomField(r *rand.Rand, low, high int, names []string) string {
	value := func(n int) string {
		if names != nil && r.IntN(2) == 0 {
			name := names[n-low]
			return []string{name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:]}[r.IntN(3)]
		}
		return fmt.Sprint(n)
	}
	item := func() string {
		from := low + r.IntN(high-low+1)
		switch r.IntN(8) {
		case 0:
			return fmt.Sprintf("%s-%s", value(from), value(from+r.IntN(high-from+1)))
		case 1:
			return fmt.Sprintf("%s-%s/%d", value(from), value(from+r.IntN(high-from+1)), 1+r.IntN(high))
		case 2:
			return fmt.Sprintf("%s/%d", value(from), 1+r.IntN(high))
		case 3:
			return fmt.Sprintf("%c/%d", "*?"[r.IntN(2)], 1+r.IntN(high/2+1))
		default:
			return value(from)
		}
	}
	if r.IntN(3) == 0 {
		return string("*?"[r.IntN(2)])
	}
	items := []string{item()}
	for r.IntN(3) == 0 {
		items = append(items, item())
	}
	return strings.Join(items, ",")
}

func randomCron(r *rand.Rand) string {
	switch r.IntN(25) {
	case 0:
		return []string{"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}[r.IntN(7)]
	case 1:
		return "@every " + (time.Duration(1+r.Int64N(1e7)) * time.Millisecond).String()
	case 2: // a day that is rare or never
		return fmt.Sprintf("%d %d %d 2 *", r.IntN(60), r.IntN(24), 28+r.IntN(4))
	}
	fields := []string{
		randomField(r, 0, 59, nil),
		randomField(r, 0, 23, nil),
		randomField(r, 1, 31, nil),
		randomField(r, 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}),
		randomField(r, 0, 6, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}),
	}
	for i := range fields[2:] { // most schedules leave days open
		if r.IntN(2) == 0 {
			fields[2+i] = "*"
		}
	}
	if r.IntN(4) == 0 {
		fields = append([]string{randomField(r, 0, 59, nil)}, fields...)
	}
	return strings.Join(fields, []string{" ", "  ", "\t"}[r.IntN(3)])
}

// randomInstant is an instant from 1970 to 2037; every other one is within two
// days of a clock change, if its year has any.
func randomInstant(r *rand.Rand, zone *time.Location) time.Time {
	t := time.Unix(r.Int64N(int64(67*365.25*24*3600)), 0)
	if r.IntN(2) == 0 {
		if _, change := t.In(zone).ZoneBounds(); !change.IsZero() && change.Year() < 2038 {
			t = change.Add(time.Duration(r.Int64N(int64(96*time.Hour))) - 48*time.Hour)
		}
	}
	return t.Truncate(time.Second).Add(time.Duration(r.IntN(3)) * 333_333 * time.Microsecond)
}

// cron_next is right when it agrees with the reference, on random expressions and
// instants, clock changes included. The one difference: the reference gives up
// after five years, which a 29 February may exceed.
func TestCronNextEqualsReference(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	fires := make([]cronFire, 12_000)
	for i := range fires {
		f := cronFire{cron: randomCron(r), zone: cronZones[r.IntN(len(cronZones))]}
		zone, err := time.LoadLocation(f.zone)
		if err != nil {
			t.Fatal(err)
		}
		schedule, err := cronParser.Parse(f.cron)
		if err != nil {
			t.Fatal(err)
		}
		f.after = randomInstant(r, zone)
		f.want = schedule.Next(f.after.In(zone))
		fires[i] = f
	}
	compareCron(t, pgtest.Conn(t, pgtest.URL(t)), fires)
}

func compareCron(t *testing.T, conn *pgx.Conn, fires []cronFire) {
	t.Helper()
	var crons, zones []string
	var afters []time.Time
	for _, f := range fires {
		crons = append(crons, f.cron)
		zones = append(zones, f.zone)
		afters = append(afters, f.after)
	}
	rows, _ := conn.Query(context.Background(), `select awa.cron_next(u.cron, u.zone, u.after)
		from unnest($1::text[], $2::text[], $3::timestamptz[]) with ordinality as u (cron, zone, after, n)
		order by u.n`, crons, zones, afters)
	got, err := pgx.CollectRows(rows, pgx.RowTo[*time.Time])
	if err != nil {
		t.Fatal(err)
	}
	wrong := 0
	for i, f := range fires {
		switch {
		case got[i] == nil && f.want.IsZero(), got[i] != nil && got[i].Equal(f.want):
			continue
		case got[i] != nil && f.want.IsZero() && got[i].After(f.after.AddDate(5, 0, 0)):
			continue
		}
		if wrong++; wrong <= 10 {
			t.Errorf("%v: %v, want %v", f, got[i], f.want.UTC())
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d differ", wrong, len(fires))
	}
}

// The fires around a clock change, one after the other.
func TestCronNextAcrossClockChanges(t *testing.T) {
	t.Parallel()
	var fires []cronFire
	for _, name := range cronZones {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		_, change := time.Date(2010, 1, 1, 0, 0, 0, 0, zone).ZoneBounds()
		for range 2 {
			if change.IsZero() {
				break
			}
			for _, expression := range []string{
				"* * * * *", "30 * * * *", "0 0 * * *", "0 1 * * *", "30 1 * * *", "0 2 * * *", "30 2 * * *", "0 */3 * * *",
				"15 23,0-3 * * *", "0 12 * * SUN", "0 12 * * MON,FRI", "0 0 1 * *", "*/20 30 1-2 * * *",
			} {
				schedule, err := cronParser.Parse(expression)
				if err != nil {
					t.Fatal(err)
				}
				after := change.Add(-3 * time.Hour)
				for range 12 {
					next := schedule.Next(after.In(zone))
					fires = append(fires, cronFire{expression, name, after, next})
					after = next
				}
			}
			_, change = change.ZoneBounds()
		}
	}
	compareCron(t, pgtest.Conn(t, pgtest.URL(t)), fires)
}
