package main

import (
	"testing"

	"weir/config"
	"weir/connector/kafka"
)

// config checks drain against one of them, the group is joined with the other.
func TestRebalanceTimeoutIsTheSameOnBothSides(t *testing.T) {
	if config.RebalanceTimeout != kafka.RebalanceTimeout {
		t.Errorf("config says %v, kafka %v", config.RebalanceTimeout, kafka.RebalanceTimeout)
	}
}
