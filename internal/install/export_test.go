package install

// Changed are the tables and views that a step names as changed.
var Changed = changed

// Step is a migration, or the code.
type Step struct{ Name, SQL string }

// Steps are those of this release, for a ring of three segments.
func Steps() ([]Step, error) {
	o, err := Options{}.withDefaults()
	if err != nil {
		return nil, err
	}
	r, err := o.compile(3)
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, m := range r.migrations {
		steps = append(steps, Step{m.Name, m.UpSQL})
	}
	return append(steps, Step{"the code", r.code}), nil
}
