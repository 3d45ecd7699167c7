package kafka

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// deadLetterBytes is what a dead-letter topic takes at most in one batch. A
// dead letter is its record and some headers: with the default of 1 MiB the
// largest records could not even be dead-lettered.
const deadLetterBytes = 64 << 20

// EnsureTopic makes topic unless it is there, and waits until it has leaders.
// A replication factor of -1 means the brokers' default. made: it was not there,
// and is now, whatever err says of what came after.
//
// Errors: when it may not be made, a text that says which right is missing and
// how somebody else can make it.
func EnsureTopic(ctx context.Context, o Options, topic string, partitions int32, replication int16) (made bool, err error) {
	m, err := o.Metadata(ctx, topic)
	if err != nil {
		return false, err
	}
	if m.Topics[topic].Err == nil {
		return false, nil
	}
	// A topic that we may not describe might exist: making it tells.
	err = o.createTopic(ctx, topic, partitions, replication, false)
	switch {
	case errors.Is(err, sarama.ErrTopicAlreadyExists):
	case err != nil:
		return false, o.cannotCreate(topic, partitions, err)
	default:
		made = true
	}
	for {
		m, err := o.Metadata(ctx, topic)
		if err != nil {
			return made, err
		}
		t := m.Topics[topic]
		if t.Err == nil && t.Leaderless == 0 {
			return made, nil
		}
		if errors.Is(t.Err, sarama.ErrTopicAuthorizationFailed) {
			return made, o.Explain(t.Err) // it is there, and not for us
		}
		select {
		case <-ctx.Done():
			return made, fmt.Errorf("kafka: topic %q is there but has no leaders yet: %w", topic, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// createTopic asks the controller to make topic, or, with dry, whether it would.
func (o Options) createTopic(ctx context.Context, topic string, partitions int32, replication int16, dry bool) error {
	size := fmt.Sprint(deadLetterBytes)
	req := sarama.NewCreateTopicsRequest(sarama.MaxVersion, map[string]*sarama.TopicDetail{topic: {
		NumPartitions:     partitions,
		ReplicationFactor: replication,
		ConfigEntries:     map[string]*string{"max.message.bytes": &size},
	}}, 15*time.Second, dry)
	return o.onController(ctx, func(b *sarama.Broker) error {
		resp, err := b.CreateTopics(req)
		if err != nil {
			return err
		}
		te, ok := resp.TopicErrors[topic]
		switch {
		case !ok:
			return sarama.ErrIncompleteResponse
		case te.Err == sarama.ErrNoError:
			return nil
		case te.ErrMsg != nil && *te.ErrMsg != "":
			return sarama.Wrap(te.Err, errors.New(*te.ErrMsg))
		}
		return te.Err
	})
}

// onController calls do on the cluster's controller. Where KRaft hides it any
// broker stands in for it.
func (o Options) onController(ctx context.Context, do func(*sarama.Broker) error) error {
	var controller string
	err := o.withBroker(ctx, func(b *sarama.Broker) error {
		resp, err := b.GetMetadata(sarama.NewMetadataRequest(sarama.MaxVersion, []string{"__consumer_offsets"}))
		if err != nil {
			return err
		}
		for _, b := range resp.Brokers {
			if b.ID() == resp.ControllerID {
				controller = b.Addr()
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if controller == "" {
		return o.withBroker(ctx, do)
	}
	return o.onBroker(ctx, controller, do)
}

func (o Options) cannotCreate(topic string, partitions int32, err error) error {
	bootstrap := strings.Join(o.Brokers, ",")
	var b strings.Builder
	fmt.Fprintf(&b, "kafka: topic %q does not exist and could not be made", topic)
	if errors.Is(err, sarama.ErrTopicAuthorizationFailed) || errors.Is(err, sarama.ErrClusterAuthorizationFailed) {
		user := "ANONYMOUS"
		if o.SASL != nil {
			user = o.SASL.Username
		}
		fmt.Fprintf(&b, ": user %q has no CREATE right on it. Grant it with\n"+
			"  kafka-acls.sh --bootstrap-server %s --add --allow-principal 'User:%s' --operation Create --operation Write --operation Describe --topic '%s'",
			user, bootstrap, user, topic)
	} else {
		fmt.Fprintf(&b, ": %s.", printable(err.Error(), 300))
	}
	fmt.Fprintf(&b, "\nor make the topic with\n"+
		"  kafka-topics.sh --bootstrap-server %s --create --topic '%s' --partitions %d --config max.message.bytes=%d",
		bootstrap, topic, partitions, deadLetterBytes)
	return &createError{text: b.String(), err: err}
}

// createError is a text of several lines for a person, with its cause.
type createError struct {
	text string
	err  error
}

func (e *createError) Error() string { return e.text }
func (e *createError) Unwrap() error { return e.err }

// Subject is what Check looks at.
type Subject struct {
	Group      string
	Topics     []string
	Pattern    *regexp.Regexp // instead of Topics; nil: none
	DeadLetter string         // the dead-letter topic; "": none
}

// Finding is one thing that Check looked at.
type Finding struct {
	What   string // "broker 10.0.0.1:9092", "topic edr.events"
	OK     bool
	Detail string // a sentence; why not, if not OK
}

// Check finds out whether a connector could work, and what stands in its way.
// It joins no group and makes nothing.
func Check(ctx context.Context, o Options, s Subject) []Finding {
	found, live := o.checkBrokers(ctx)
	if !live {
		return found // the rest would say the same again
	}
	found = append(found, o.checkTopics(ctx, s)...)
	if s.Group != "" {
		found = append(found, o.checkGroup(ctx, s.Group))
	}
	if s.DeadLetter != "" {
		found = append(found, o.checkDeadLetter(ctx, s.DeadLetter))
	}
	return found
}

func finding(what, good string, err error) Finding {
	if err != nil {
		return Finding{What: what, Detail: printable(err.Error(), 700)}
	}
	return Finding{What: what, OK: true, Detail: good}
}

// maxChecked bounds the number of brokers that are looked at one by one.
const maxChecked = 24

// checkBrokers looks at the given brokers and at those they name: a broker that
// answers but advertises addresses that cannot be reached from here is the most
// common fault of all. live: at least one answers.
func (o Options) checkBrokers(ctx context.Context) (found []Finding, live bool) {
	var mu sync.Mutex
	advertised := map[string]bool{}
	probe := func(addr, hint string) Finding {
		err := o.onBroker(ctx, addr, func(b *sarama.Broker) error {
			resp, err := b.GetMetadata(sarama.NewMetadataRequest(sarama.MaxVersion, []string{"__consumer_offsets"}))
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, b := range resp.Brokers {
				advertised[b.Addr()] = true
			}
			return nil
		})
		f := finding(fmt.Sprintf("broker %s", printable(addr, 200)), "answers"+o.manner(), err)
		if err != nil {
			f.Detail += hint
		}
		return f
	}
	found = each(o.Brokers, func(addr string) Finding { return probe(addr, "") })
	live = slices.ContainsFunc(found, func(f Finding) bool { return f.OK })
	var more []string
	for addr := range advertised {
		if !slices.Contains(o.Brokers, addr) {
			more = append(more, addr)
		}
	}
	slices.Sort(more)
	return append(found, each(more[:min(len(more), maxChecked)], func(addr string) Finding {
		return probe(addr, " (the brokers advertise this address, and it has to be reachable from here)")
	})...), live
}

// each calls do for all of in at the same time.
func each(in []string, do func(string) Finding) []Finding {
	out := make([]Finding, len(in))
	var wg sync.WaitGroup
	for i, s := range in {
		wg.Go(func() { out[i] = do(s) })
	}
	wg.Wait()
	return out
}

// manner says how a broker was spoken to.
func (o Options) manner() string {
	s := ", plaintext"
	if o.TLS != nil {
		s = ", TLS"
		if o.TLS.InsecureSkipVerify {
			s = ", TLS with its certificate unverified"
		}
	}
	if o.SASL != nil {
		s += fmt.Sprintf(", logged in as %q with %s", o.SASL.Username, o.SASL.Mechanism)
	}
	return s
}

func (o Options) checkTopics(ctx context.Context, s Subject) []Finding {
	if s.Pattern != nil {
		what := fmt.Sprintf("topics matching %q", s.Pattern)
		m, err := o.Metadata(ctx)
		if err != nil {
			return []Finding{finding(what, "", err)}
		}
		var names []string
		for name, t := range m.Topics {
			if !t.Internal && s.Pattern.MatchString(name) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		if len(names) == 0 {
			return []Finding{{What: what, Detail: "there is none yet that we may see; weir waits for one"}}
		}
		return o.describeTopics(m, names)
	}
	if len(s.Topics) == 0 {
		return nil
	}
	m, err := o.Metadata(ctx, s.Topics...)
	if err != nil {
		return []Finding{finding("topics", "", err)}
	}
	return o.describeTopics(m, s.Topics)
}

func (o Options) describeTopics(m Metadata, names []string) []Finding {
	var found []Finding
	for _, name := range names {
		t, ok := m.Topics[name]
		f := Finding{What: "topic " + printable(name, 250)}
		switch {
		case !ok:
			f.Detail = "the broker said nothing about it"
		case errors.Is(t.Err, sarama.ErrUnknownTopicOrPartition):
			f.Detail = "does not exist; weir waits until it is made"
		case t.Err != nil:
			f.Detail = o.Explain(t.Err).Error()
		case !t.May(sarama.AclOperationRead):
			f.Detail = "it exists, but we have no READ right on it"
		case t.Leaderless > 0:
			f.Detail = fmt.Sprintf("%d of its %d partitions have no leader: they cannot be read now", t.Leaderless, len(t.Partitions))
		default:
			f.OK = true
			f.Detail = fmt.Sprintf("%d partitions, id %s", len(t.Partitions), t.ID)
			if t.ID == "" {
				f.Detail = fmt.Sprintf("%d partitions, no topic id (Kafka below 2.8): if it is deleted and made again, new events can meet the old ones' ids",
					len(t.Partitions))
			}
		}
		found = append(found, f)
	}
	return found
}

// findCoordinator is the address of the broker that keeps group.
func (o Options) findCoordinator(ctx context.Context, group string) (addr string, err error) {
	err = o.withBroker(ctx, func(b *sarama.Broker) error {
		resp, err := b.FindCoordinator(&sarama.FindCoordinatorRequest{
			Version: 2, CoordinatorKey: group, CoordinatorType: sarama.CoordinatorGroup,
		})
		if err != nil {
			return err
		}
		if resp.Err != sarama.ErrNoError {
			return resp.Err
		}
		if resp.Coordinator == nil {
			return sarama.ErrIncompleteResponse
		}
		addr = resp.Coordinator.Addr()
		return nil
	})
	return addr, err
}

// patiently asks a coordinator again, for ten seconds at most, while there is none
// yet: the first question ever makes a new cluster create the topic for what it
// keeps, and a coordinator that was just chosen has to read that first.
//
// Errors: what was answered last, and that of ctx, if it ended first.
func patiently(ctx context.Context, ask func() error) error {
	err := ask()
	for range 40 {
		if !errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable) && !errors.Is(err, sarama.ErrNotCoordinatorForConsumer) &&
			!errors.Is(err, sarama.ErrOffsetsLoadInProgress) {
			break
		}
		if !sleep(ctx, 250*time.Millisecond) {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		err = ask()
	}
	return err
}

func (o Options) checkGroup(ctx context.Context, group string) Finding {
	what := "group " + printable(group, 250)
	var g *sarama.GroupDescription
	err := patiently(ctx, func() (err error) {
		g, err = o.describeGroup(ctx, group)
		return err
	})
	if errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable) {
		return Finding{What: what, Detail: "has no coordinator yet: the brokers are still making __consumer_offsets, or cannot; try again in a minute"}
	}
	if err != nil {
		return finding(what, "", err)
	}
	f := Finding{What: what}
	switch {
	case !may(g.AuthorizedOperations, sarama.AclOperationRead):
		f.Detail = "we have no READ right on it, which joining and committing need"
	case g.State == "Dead" || g.Err == sarama.ErrGroupIDNotFound:
		f.OK, f.Detail = true, "new, and we may use it"
	case g.ProtocolType != "" && g.ProtocolType != "consumer":
		f.Detail = fmt.Sprintf("is in use by something that is not a consumer (%q)", g.ProtocolType)
	case len(g.Members) > 0 && g.Protocol != "" && g.Protocol != sarama.CooperativeStickyBalanceStrategyName:
		f.Detail = fmt.Sprintf("its %d members share the partitions by %q, weir only by %q: stop them, or use another group",
			len(g.Members), g.Protocol, sarama.CooperativeStickyBalanceStrategyName)
	default:
		f.OK, f.Detail = true, fmt.Sprintf("we may use it; now %s with %d members", strings.ToLower(g.State), len(g.Members))
	}
	return f
}

// describeGroup asks the group's coordinator about it.
func (o Options) describeGroup(ctx context.Context, group string) (g *sarama.GroupDescription, err error) {
	coordinator, err := o.findCoordinator(ctx, group)
	if err != nil {
		return nil, err
	}
	err = o.onBroker(ctx, coordinator, func(b *sarama.Broker) error {
		resp, err := b.DescribeGroups(&sarama.DescribeGroupsRequest{Version: 5, Groups: []string{group}, IncludeAuthorizedOperations: true})
		if err != nil {
			return err
		}
		if len(resp.Groups) != 1 {
			return sarama.ErrIncompleteResponse
		}
		g = resp.Groups[0]
		if g.Err != sarama.ErrNoError && g.Err != sarama.ErrGroupIDNotFound {
			return g.Err
		}
		return nil
	})
	return g, err
}

func (o Options) checkDeadLetter(ctx context.Context, topic string) Finding {
	what := "dead-letter topic " + printable(topic, 250)
	m, err := o.Metadata(ctx, topic)
	if err != nil {
		return finding(what, "", err)
	}
	t := m.Topics[topic]
	switch {
	case errors.Is(t.Err, sarama.ErrUnknownTopicOrPartition):
		// Validated by the broker, not made.
		if err := o.createTopic(ctx, topic, 1, -1, true); err != nil {
			return Finding{What: what, Detail: strings.Join(strings.Fields(o.cannotCreate(topic, 3, err).Error()), " ")}
		}
		return Finding{What: what, OK: true, Detail: "does not exist yet; we may make it, and shall"}
	case t.Err != nil:
		return finding(what, "", o.Explain(t.Err))
	case !t.May(sarama.AclOperationWrite):
		return Finding{What: what, Detail: "it exists, but we have no WRITE right on it"}
	case t.Leaderless > 0:
		return Finding{What: what, Detail: fmt.Sprintf("%d of its %d partitions have no leader", t.Leaderless, len(t.Partitions))}
	}
	return Finding{What: what, OK: true, Detail: fmt.Sprintf("%d partitions, and we may write to it", len(t.Partitions))}
}
