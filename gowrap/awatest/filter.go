package awatest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	awa "github.com/awaqueue/awa/gowrap"
)

// Filter narrows what RequireEnqueued looks for.
type Filter func(*criteria)

// criteria is what filters make: a job must have the kind and pass every test.
type criteria struct {
	client awa.Client
	kind   string
	tests  []func(awa.JobInfo) bool
	words  []string // what the tests want, for failures
}

func (c *criteria) add(words string, test func(awa.JobInfo) bool) {
	c.words = append(c.words, words)
	c.tests = append(c.tests, test)
}

func (c *criteria) match(job awa.JobInfo) bool {
	return job.Kind == c.kind && !slices.ContainsFunc(c.tests, func(test func(awa.JobInfo) bool) bool { return !test(job) })
}

func (c criteria) String() string {
	return strings.Join(append([]string{"of kind " + c.kind}, c.words...), ", ")
}

// Of looks in the schema of a client. Without it the schema is "awa".
func Of(client awa.Client) Filter {
	return func(c *criteria) { c.client = client }
}

// InQueue wants jobs of a queue.
func InQueue(queue string) Filter {
	return func(c *criteria) {
		c.add("in queue "+queue, func(j awa.JobInfo) bool { return j.Queue == queue })
	}
}

// InState wants jobs in one of the states.
func InState(states ...awa.JobState) Filter {
	return func(c *criteria) {
		c.add(fmt.Sprintf("in state %v", states), func(j awa.JobInfo) bool { return slices.Contains(states, j.State) })
	}
}

// Tagged wants jobs that carry the tag.
func Tagged(tag string) Filter {
	return func(c *criteria) {
		c.add("tagged "+tag, func(j awa.JobInfo) bool { return slices.Contains(j.Tags, tag) })
	}
}

// WithID wants the job of that id.
func WithID(id int64) Filter {
	return func(c *criteria) {
		c.add(fmt.Sprintf("with id %d", id), func(j awa.JobInfo) bool { return j.ID == id })
	}
}

// Where wants jobs that satisfy f.
func Where(f func(awa.JobInfo) bool) Filter {
	return func(c *criteria) { c.add("for which Where holds", f) }
}

// WhereArgs wants jobs whose arguments decode into a T that satisfies f.
func WhereArgs[T any](f func(T) bool) Filter {
	return func(c *criteria) {
		c.add("for which WhereArgs holds", func(j awa.JobInfo) bool {
			var args T
			return json.Unmarshal(j.Args, &args) == nil && f(args)
		})
	}
}
