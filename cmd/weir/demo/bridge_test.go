package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"weir/connector"
)

// naive is a bridge as one would write it in an afternoon: it reads, posts one
// request at a time until each event has a verdict, and counts. It commits in
// its own memory only.
type naive struct {
	env    Env
	reader *kgo.Client
	writer *kgo.Client
	stop   context.CancelFunc
	done   chan struct{}

	lose func(value []byte) bool // drops an event and calls it settled
	hold func(value []byte) bool // never gets this event done

	mu    sync.Mutex
	lanes []connector.LaneStats
	down  error
	since time.Time
	busy  int
}

func startNaive(env Env) (*naive, error) {
	offsets := map[int32]kgo.Offset{}
	n := &naive{env: env, done: make(chan struct{})}
	for p := range int32(env.Partitions) {
		offsets[p] = kgo.NewOffset().AtStart()
		n.lanes = append(n.lanes, connector.LaneStats{Topic: env.Topic, Partition: p, Live: true})
	}
	var err error
	if n.reader, err = kgo.NewClient(kgo.SeedBrokers(env.Brokers...), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{env.Topic: offsets})); err != nil {
		return nil, err
	}
	if n.writer, err = kgo.NewClient(kgo.SeedBrokers(env.Brokers...)); err != nil {
		n.reader.Close()
		return nil, err
	}
	return n, nil
}

func (n *naive) run(ctx context.Context) {
	ctx, n.stop = context.WithCancel(ctx)
	go func() {
		defer close(n.done)
		for ctx.Err() == nil {
			fetches := n.reader.PollRecords(ctx, 2000)
			fetches.EachPartition(func(p kgo.FetchTopicPartition) {
				if p.Err != nil {
					return // ctx is done
				}
				n.mu.Lock()
				n.lanes[p.Partition].End = p.HighWatermark
				n.mu.Unlock()
			})
			n.deliver(ctx, fetches.Records())
		}
	}()
}

// deliver returns when every record has a verdict, or ctx is done.
func (n *naive) deliver(ctx context.Context, records []*kgo.Record) {
	next := map[int32]int64{}
	var todo []*kgo.Record
	for _, r := range records {
		next[r.Partition] = r.Offset + 1
		if n.lose == nil || !n.lose(r.Value) {
			todo = append(todo, r)
		}
	}
	for len(todo) > 0 {
		left, err := n.post(ctx, todo)
		n.mu.Lock()
		if err != nil && n.down == nil {
			n.since = time.Now()
		}
		n.down = err
		if len(left) > 0 {
			n.lanes[0].Counts.Retried += int64(len(left))
		}
		n.mu.Unlock()
		todo = left
		if len(todo) > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for p, at := range next {
		n.lanes[p].Committed, n.lanes[p].Position = at, at
	}
}

// post makes one attempt and returns the records to send again.
func (n *naive) post(ctx context.Context, records []*kgo.Record) ([]*kgo.Record, error) {
	var body bytes.Buffer
	for _, r := range records {
		fmt.Fprintf(&body, "{\"create\":{\"_index\":\"demo\",\"_id\":\"%s-%d-%d\"}}\n", r.Topic, r.Partition, r.Offset)
		if json.Valid(r.Value) {
			body.Write(r.Value)
		} else {
			_ = json.NewEncoder(&body).Encode(map[string]any{"event": map[string]string{"original": string(r.Value)}})
			body.Truncate(body.Len() - 1)
		}
		body.WriteByte('\n')
	}
	n.mu.Lock()
	n.busy = 1
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.busy = 0
		n.mu.Unlock()
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.env.SIEM+"/_bulk", &body)
	if err != nil {
		return records, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return records, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return records, errors.New(resp.Status)
	}
	var answer bulkAnswer
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Items) != len(records) {
		return records, fmt.Errorf("unreadable answer: %w", err)
	}
	var left []*kgo.Record
	for i, item := range answer.Items {
		r := records[i]
		if n.hold != nil && n.hold(r.Value) {
			left = append(left, r)
			continue
		}
		n.mu.Lock()
		c := &n.lanes[r.Partition].Counts
		n.mu.Unlock()
		switch status := item["create"].Status; status {
		case 201:
			n.count(&c.Delivered)
		case 409:
			n.count(&c.Delivered)
			n.count(&c.Duplicates)
		case 400:
			if err := n.writer.ProduceSync(ctx, &kgo.Record{Topic: n.env.DeadLetter, Value: r.Value}).FirstErr(); err != nil {
				left = append(left, r)
				continue
			}
			n.count(&c.DeadLettered)
		default:
			left = append(left, r)
		}
	}
	return left, nil
}

func (n *naive) count(c *int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	*c++
}

func (n *naive) Stats() connector.Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return connector.Stats{
		Name: "demo", Lanes: append([]connector.LaneStats(nil), n.lanes...),
		InFlight: n.busy, Window: 1, WindowMax: 1, BytesMax: 1 << 20,
		Down: n.down, DownSince: n.since,
	}
}

func (n *naive) Stop(context.Context) error {
	n.stop()
	<-n.done
	n.reader.Close()
	n.writer.Close()
	return nil
}

func (n *naive) MetricsURL() string { return "http://127.0.0.1:0/metrics" }

// bulkAnswer is what the tests read of a bulk answer.
type bulkAnswer struct {
	Errors bool
	Items  []map[string]struct {
		ID     string `json:"_id"`
		Status int
		Error  struct{ Type, Reason string }
	}
}
