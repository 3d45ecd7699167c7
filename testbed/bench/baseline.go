package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"

	"github.com/IBM/sarama"
	"github.com/klauspost/compress/gzip"
)

// Cases that weir's processor time is measured by: a naive reader, which is what
// the same work costs with nothing promised.
const (
	baselineCase        = "baseline"
	baselineGzipCase    = "baseline-gzip"
	baselineBacklogCase = "baseline-backlog"
)

const (
	// naiveBatch is weir's own default of events a request.
	naiveBatch   = 5000
	naivePosters = 4
)

// runNaive measures the naive reader, in a process of its own: this program again.
func (r *runner) runNaive(ctx context.Context, c benchCase) (Result, error) {
	res, topic, sink, err := r.begin(ctx, c)
	if err != nil {
		return res, err
	}
	defer sink.stop()
	self, err := os.Executable()
	if err != nil {
		return res, err
	}
	cmd := exec.CommandContext(ctx, self, "naive", "-broker="+r.kafka, "-topic="+topic, "-url="+sink.url, fmt.Sprint("-gzip=", c.Name == baselineGzipCase),
		fmt.Sprint("-partitions=", c.Load.Partitions), fmt.Sprint("-events=", c.Load.Events))
	if err := r.measured(ctx, &res, cmd); err != nil {
		return res, err
	}
	t, err := sink.tally(ctx)
	if err != nil {
		return res, err
	}
	res.count(t, c.backend)
	return res, nil
}

// naive reads every partition with sarama and posts bulk requests with an id an
// event. It looks whether the answer says that all items were taken; it knows
// nothing of what was not, validates nothing, bounds nothing, commits nothing.
type naive struct {
	broker, topic, url string
	partitions         int
	events             int // of all partitions, which differ by one at most
	gzip               bool
}

func naiveCommand(args []string) error {
	var n naive
	flags := flag.NewFlagSet("bench naive", flag.ContinueOnError)
	flags.StringVar(&n.broker, "broker", "", "")
	flags.StringVar(&n.topic, "topic", "", "")
	flags.StringVar(&n.url, "url", "", "")
	flags.IntVar(&n.partitions, "partitions", 1, "")
	flags.IntVar(&n.events, "events", 0, "")
	flags.BoolVar(&n.gzip, "gzip", false, "compress the requests, at level 1")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return n.run()
}

func (n *naive) run() error {
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V3_6_0_0
	cfg.Consumer.Return.Errors = false
	consumer, err := sarama.NewConsumer([]string{n.broker}, cfg)
	if err != nil {
		return err
	}
	bodies := make(chan []byte, naivePosters)
	var posters, readers sync.WaitGroup
	faults := make([]error, naivePosters)
	for i := range naivePosters {
		posters.Go(func() { faults[i] = n.poster(bodies) })
	}
	for p := range n.partitions {
		part, err := consumer.ConsumePartition(n.topic, int32(p), 0)
		if err != nil {
			return err
		}
		records := n.events / n.partitions
		if p < n.events%n.partitions {
			records++
		}
		readers.Go(func() { read(part, int64(records), bodies) })
	}
	readers.Wait()
	close(bodies)
	posters.Wait()
	// Not closed: the partitions' leftovers would be waited for.
	return errors.Join(faults...)
}

// read makes bulk bodies of a partition's records.
func read(part sarama.PartitionConsumer, records int64, bodies chan<- []byte) {
	size := 0 // of the body before: the next one is about as large
	var body []byte
	events := 0
	for m := range part.Messages() {
		if body == nil {
			body = make([]byte, 0, size+size/8)
		}
		body = append(body, `{"create":{"_id":"`...)
		body = append(body, m.Topic...)
		body = strconv.AppendInt(append(body, '-'), int64(m.Partition), 10)
		body = strconv.AppendInt(append(body, '-'), m.Offset, 10)
		body = append(body, "\"}}\n"...)
		body = append(append(body, m.Value...), '\n')
		events++
		last := m.Offset >= records-1
		if events == naiveBatch || last {
			size, events = len(body), 0
			bodies <- body
			body = nil
		}
		if last {
			return
		}
	}
}

// poster posts what comes in bodies, to the end.
func (n *naive) poster(bodies <-chan []byte) error {
	var fault error
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return err
	}
	for body := range bodies {
		if fault != nil {
			continue // the readers must not wait
		}
		if n.gzip {
			packed.Reset()
			z.Reset(&packed)
			_, _ = z.Write(body) // a buffer takes everything
			fault = z.Close()
			body = packed.Bytes()
		}
		if fault == nil {
			fault = n.post(body)
		}
	}
	return fault
}

func (n *naive) post(body []byte) error {
	req, err := http.NewRequest(http.MethodPost, n.url+"/bench/_bulk", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	if n.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	var answer struct {
		Errors bool `json:"errors"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Errors {
		return errors.New("not all items were taken")
	}
	return nil
}
