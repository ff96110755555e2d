package sweep

import "github.com/inferprobe/inferprobe/internal/probe"

// capacityOf reads from the stages what the endpoint can bear.
func capacityOf(c *probe.Cycle) probe.Capacity {
	var capacity probe.Capacity
	for i := range c.Stages {
		if s := &c.Stages[i]; s.Profile == probe.ProfileThroughput {
			capacity.RequestsPerSecond, capacity.RequestsInterval = s.RequestsPerSecond, s.RequestsInterval
			capacity.OutputTokensPerSecond = s.OutputTokensPerSecond
		}
	}
	capacity.ObjectiveRequestsPerSecond, _ = c.ObjectiveRate()
	return capacity
}
