package executor

import "context"

// Init readies an area for ShowPlan and Schemas where no plan was made in it:
// it installs what the configuration and the state need.
func (x *Executor) Init(ctx context.Context, s Spec, state []byte) error {
	if err := s.check(); err != nil {
		return err
	}
	ready, err := x.prepare(ctx, &s, newLog(&s), true, state)
	if err != nil {
		return err
	}
	if ready.done {
		return ready.failed(&s, "init")
	}
	return nil
}
