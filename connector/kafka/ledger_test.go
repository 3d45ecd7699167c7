package kafka

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/buffer"
)

// A group that is told where to begin begins there, leaves alone what it is not to
// read, and is seen from outside.
func TestAGroupBeginsWhereItIsTold(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(2, "t"))
	cl := client(t, o)
	write(t, cl, numbered("t", 0, 0, 10)...)
	write(t, cl, numbered("t", 1, 10, 10)...)
	c := newCatch()
	_, stop, _ := join(t, GroupConfig{Options: o, Topics: []string{"t"}, Lane: c.lane, Begin: func(origin *buffer.Origin) (int64, error) {
		if origin.TopicID == "" || origin.Partition == 1 {
			return 0, ErrNotRead
		}
		return 4, nil
	}})
	ledger := OpenLedger(t.Context(), o, "g")
	defer ledger.Close()
	topics := map[string][]int32{"t": {0, 1}}
	eventually(t, "six records are read and committed", func() bool {
		at, err := ledger.Committed(t.Context(), topics)
		return err == nil && c.has(6)() && at[PartitionID{"t", 0}].Offset == 10
	})
	if got := c.distinct(); len(got) != 6 || got[0] != "4" {
		t.Errorf("read %v, want 4 to 9", got)
	}
	at, err := ledger.Committed(t.Context(), topics)
	if _, ok := at[PartitionID{"t", 1}]; ok || err != nil {
		t.Errorf("something was committed for what is not read: %v, %v", at, err)
	}
	if m := parseMark(at[PartitionID{"t", 0}].Metadata); !m.ours || Mark(m.topicID) != at[PartitionID{"t", 0}].Metadata {
		t.Errorf("metadata %q", at[PartitionID{"t", 0}].Metadata)
	}
	write(t, cl, numbered("t", 1, 20, 5)...) // a partition that it has not committed for is no lag
	if lag, err := ledger.Lag(t.Context(), topics); err != nil || lag != 0 {
		t.Errorf("lag %d, %v", lag, err)
	}
	if bounds, err := ledger.Bounds(t.Context(), topics); err != nil || bounds[PartitionID{"t", 1}].End != 15 {
		t.Errorf("bounds %v, %v", bounds, err)
	}
	if n, known, err := ledger.Members(t.Context()); n != 1 || !known || err != nil {
		t.Errorf("%d members, known %v, %v", n, known, err)
	}
	if err := ledger.Delete(t.Context()); !errors.Is(err, ErrGroupInUse) {
		t.Errorf("deleting a group in use: %v", err)
	}
	stop()
	if err := ledger.Delete(t.Context()); err != nil {
		t.Errorf("deleting: %v", err)
	}
	if at, err := ledger.Committed(t.Context(), topics); len(at) != 0 || err != nil {
		t.Errorf("a group that was deleted has %v, %v", at, err)
	}
	if _, known, err := ledger.Members(t.Context()); known || err != nil {
		t.Errorf("a group that was deleted is known: %v, %v", known, err)
	}
}

// Who lacks a right is told which one, and not the one that others of the kind are
// mostly about.
func TestRefusedAdministrationNamesItsRight(t *testing.T) {
	c, o := fakeCluster(t, kfake.SeedTopics(1, "t"))
	c.ControlKey(int16(kmsg.DeleteGroups), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.DeleteGroupsResponse)
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group, g.ErrorCode = "g", kerr.GroupAuthorizationFailed.Code
		resp.Groups = append(resp.Groups, g)
		return resp, nil, true
	})
	c.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, asked := range req.(*kmsg.DescribeConfigsRequest).Resources {
			r := kmsg.NewDescribeConfigsResponseResource()
			r.ResourceType, r.ResourceName, r.ErrorCode = asked.ResourceType, asked.ResourceName, kerr.TopicAuthorizationFailed.Code
			if asked.ResourceType == kmsg.ConfigResourceTypeBroker {
				r.ErrorCode = kerr.ClusterAuthorizationFailed.Code
			}
			resp.Resources = append(resp.Resources, r)
		}
		return resp, nil, true
	})
	ledger := OpenLedger(t.Context(), o, "g")
	defer ledger.Close()
	_, ofTopic := o.topicConfig(t.Context(), "t")
	_, ofBroker := MetadataLimit(t.Context(), o)
	for want, err := range map[string]error{
		"lacks the DELETE right on the consumer group":    ledger.Delete(t.Context()),
		"lacks the DESCRIBE_CONFIGS right on the topic":   ofTopic,
		"lacks the DESCRIBE_CONFIGS right on the cluster": ofBroker,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
