package elastic

import (
	"context"
	"fmt"

	"weir/sinks"
)

// Check asks the cluster who it is, and whether the index has weir's template.
func (s *Sink) Check(ctx context.Context) []sinks.Finding {
	info, err := s.Ping(ctx)
	if err != nil {
		return []sinks.Finding{{What: "sink " + s.flavor.key, Detail: err.Error()}}
	}
	found := []sinks.Finding{{What: "sink " + s.flavor.key, State: sinks.Good,
		Detail: fmt.Sprintf("version %s, cluster %s, node %s", info.Version, info.Cluster, info.Node)}}
	if info.Unverified != "" {
		found[0].State, found[0].Detail = sinks.Doubtful, info.Unverified
	}
	template := sinks.Finding{What: "index template", State: sinks.Good, Detail: "weir's mapping is in force"}
	switch warning, err := s.CheckTemplate(ctx); {
	case err != nil:
		template.State, template.Detail = sinks.Bad, err.Error()
	case warning != "":
		template.State, template.Detail = sinks.Doubtful, warning
	}
	return append(found, template)
}
