package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
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
// event. It asks for nothing but whether all items were taken; it knows nothing of
// what was not, validates nothing, bounds nothing, commits nothing. What it does
// it does as cheaply as sarama and net/http let it: weir is measured by it.
type naive struct {
	broker, topic, url string
	partitions         int
	events             int // of all partitions, which differ by one at most
	gzip               bool

	client http.Client
	bodies chan []byte // to be posted
	spare  chan []byte // to be filled again
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
	// By default two connections are kept, and the other posters' made anew.
	n.client.Transport = &http.Transport{MaxIdleConnsPerHost: naivePosters}
	n.bodies = make(chan []byte, naivePosters)
	n.spare = make(chan []byte, n.partitions+2*naivePosters) // all there can be: nobody waits
	var posters, readers sync.WaitGroup
	faults := make([]error, naivePosters)
	for i := range naivePosters {
		posters.Go(func() { faults[i] = n.poster() })
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
		readers.Go(func() { n.read(part, p, int64(records)) })
	}
	readers.Wait()
	close(n.bodies)
	posters.Wait()
	// Not closed: the partitions' leftovers would be waited for.
	return errors.Join(faults...)
}

// read makes bulk bodies of a partition's records.
func (n *naive) read(part sarama.PartitionConsumer, partition int, records int64) {
	action := fmt.Appendf(nil, `{"create":{"_id":"%s-%d-`, n.topic, partition)
	var body []byte
	events := 0
	for m := range part.Messages() {
		if body == nil {
			body = n.body(len(action) + len(m.Value))
		}
		body = append(body, action...)
		body = strconv.AppendInt(body, m.Offset, 10)
		body = append(body, "\"}}\n"...)
		body = append(body, m.Value...)
		body = append(body, '\n')
		events++
		last := m.Offset >= records-1
		if events == naiveBatch || last {
			n.bodies <- body
			body, events = nil, 0
		}
		if last {
			return
		}
	}
}

// body is an empty one, with room for a batch of events of about size bytes.
func (n *naive) body(size int) []byte {
	select {
	case body := <-n.spare:
		return body[:0]
	default:
		return make([]byte, 0, naiveBatch*(size+32)) // an offset and what closes the lines
	}
}

// poster posts what comes in bodies, to the end.
func (n *naive) poster() error {
	var fault error
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return err
	}
	for body := range n.bodies {
		if fault != nil {
			continue // the readers must not wait
		}
		text := body
		if n.gzip {
			packed.Reset()
			z.Reset(&packed)
			_, _ = z.Write(body) // a buffer takes everything
			fault = z.Close()
			text = packed.Bytes()
		}
		if fault == nil {
			fault = n.post(text)
		}
		if fault == nil {
			n.spare <- body // the endpoint, which took it, has read all of it
		}
	}
	return fault
}

func (n *naive) post(body []byte) error {
	req, err := http.NewRequest(http.MethodPost, n.url+"/bench/_bulk?filter_path=errors", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	if n.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	res, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if !bytes.Contains(answer, []byte(`"errors":false`)) {
		return errors.New("not all items were taken")
	}
	return nil
}
