// Package sdk shows what an unmodified centrifuge-go sees of Fireside, in JSON and in Protobuf.
package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

// people are clients of one server that speak one encoding.
type people struct {
	*testing.T
	server   *server
	encoding string
}

// story runs a test in either encoding, each with a server of its own.
func story(t *testing.T, test func(p people)) {
	for _, encoding := range []string{"json", "protobuf"} {
		t.Run(encoding, func(t *testing.T) { test(people{t, newServer(t), encoding}) })
	}
}

func (p people) client(config centrifuge.Config) *centrifuge.Client {
	open := centrifuge.NewJsonClient
	if p.encoding == "protobuf" {
		open = centrifuge.NewProtobufClient
	}
	client := open(p.server.url(), config)
	p.Cleanup(client.Close)
	return client
}

// join connects as user.
func (p people) join(user string) *centrifuge.Client {
	p.Helper()
	client := p.client(centrifuge.Config{Token: token(user, time.Hour, tokenSecret)})
	must(p.T, client.Connect())
	until(p.T, user+" to be connected", func() bool { return client.State() == centrifuge.StateConnected })
	return client
}

// seen keeps what one subscription was told, in order.
type seen struct {
	*centrifuge.Subscription
	lock          sync.Mutex
	records       []centrifuge.Publication
	starts        []centrifuge.SubscribedEvent
	ends          []uint32
	joins, leaves []string
}

func (s *seen) numbers() []int {
	s.lock.Lock()
	defer s.lock.Unlock()
	numbers := []int{}
	for _, record := range s.records {
		var body struct{ N int }
		if json.Unmarshal(record.Data, &body) != nil {
			body.N = -1
		}
		numbers = append(numbers, body.N)
	}
	return numbers
}

func (s *seen) count() (records, starts, ends int) {
	s.lock.Lock()
	defer s.lock.Unlock()
	return len(s.records), len(s.starts), len(s.ends)
}

// subscribe opens a subscription without waiting for its start.
func (p people) subscribe(client *centrifuge.Client, channel string, config centrifuge.SubscriptionConfig) *seen {
	p.Helper()
	subscription, err := client.NewSubscription(channel, config)
	must(p.T, err)
	s := &seen{Subscription: subscription}
	keep := func(add func()) {
		s.lock.Lock()
		defer s.lock.Unlock()
		add()
	}
	subscription.OnPublication(func(e centrifuge.PublicationEvent) { keep(func() { s.records = append(s.records, e.Publication) }) })
	subscription.OnSubscribed(func(e centrifuge.SubscribedEvent) { keep(func() { s.starts = append(s.starts, e) }) })
	subscription.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) { keep(func() { s.ends = append(s.ends, e.Code) }) })
	subscription.OnJoin(func(e centrifuge.JoinEvent) { keep(func() { s.joins = append(s.joins, e.User) }) })
	subscription.OnLeave(func(e centrifuge.LeaveEvent) { keep(func() { s.leaves = append(s.leaves, e.User) }) })
	must(p.T, subscription.Subscribe())
	return s
}

// follow subscribes and waits for the start.
func (p people) follow(client *centrifuge.Client, channel string, config centrifuge.SubscriptionConfig) *seen {
	p.Helper()
	s := p.subscribe(client, channel, config)
	until(p.T, "the subscription to "+channel, func() bool { _, starts, _ := s.count(); return starts > 0 })
	return s
}

func (p people) sees(s *seen, numbers []int) {
	p.Helper()
	until(p.T, fmt.Sprintf("%d records", len(numbers)), func() bool { records, _, _ := s.count(); return records >= len(numbers) })
	p.equal(s.numbers(), numbers)
}

func (p people) equal(got, wanted any) {
	p.Helper()
	if !reflect.DeepEqual(got, wanted) {
		p.Fatalf("got %v, wanted %v", got, wanted)
	}
}

func code(err error) uint32 {
	var refusal *centrifuge.Error
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	return 0
}

func upTo(last int) []int {
	numbers := []int{}
	for n := 1; n <= last; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

func body(n int) []byte { return fmt.Appendf(nil, `{"n":%d}`, n) }

func TestAPublicationReachesEverySubscriberWithItsAuthor(t *testing.T) {
	story(t, func(p people) {
		anna, ben := p.join("anna"), p.join("ben")
		annas := p.follow(anna, "room:order", centrifuge.SubscriptionConfig{})
		bens := p.follow(ben, "room:order", centrifuge.SubscriptionConfig{})
		for n := 1; n <= 30; n++ {
			_, err := annas.Publish(soon(), body(n))
			must(t, err)
		}
		p.sees(annas, upTo(30))
		p.sees(bens, upTo(30))
		for at, record := range bens.records {
			p.equal(record.Offset, uint64(at+1))
			p.equal([]string{record.Info.User, string(record.Info.ConnInfo)}, []string{"anna", `{"name":"anna"}`})
		}
	})
}

func TestNothingIsLostOrDoubledOverARestart(t *testing.T) {
	story(t, func(p people) {
		s := p.follow(p.join("anna"), "room:killed", centrifuge.SubscriptionConfig{})
		p.server.say(p.T, "room:killed", 1, 10)
		p.sees(s, upTo(10))
		p.server.kill()
		p.server.run(p.T)
		p.server.say(p.T, "room:killed", 11, 30)
		p.sees(s, upTo(30))
		last := s.starts[len(s.starts)-1]
		p.equal([]bool{len(s.starts) > 1, last.WasRecovering, last.Recovered}, []bool{true, true, true})
	})
}

func TestMoreThanOnePageIsRecovered(t *testing.T) {
	story(t, func(p people) {
		anna := p.join("anna")
		s := p.follow(anna, "room:away", centrifuge.SubscriptionConfig{})
		p.server.say(p.T, "room:away", 1, 3)
		p.sees(s, upTo(3))
		must(t, anna.Disconnect())
		p.server.say(p.T, "room:away", 4, 700)
		must(t, anna.Connect())
		p.sees(s, upTo(700))
	})
}

func TestPresenceJoinsAndLeaves(t *testing.T) {
	story(t, func(p people) {
		s := p.follow(p.join("anna"), "room:presence", centrifuge.SubscriptionConfig{JoinLeave: true})
		ben := p.join("ben")
		p.follow(ben, "room:presence", centrifuge.SubscriptionConfig{})
		told := func(names *[]string) bool {
			s.lock.Lock()
			defer s.lock.Unlock()
			for _, name := range *names {
				if name == "ben" {
					return true
				}
			}
			return false
		}
		until(p.T, "the join of ben", func() bool { return told(&s.joins) })
		members, err := s.Presence(soon())
		must(t, err)
		users := map[string]bool{}
		for _, member := range members.Clients {
			users[member.User] = true
		}
		p.equal(users, map[string]bool{"anna": true, "ben": true})
		must(t, ben.Disconnect())
		until(p.T, "the leave of ben", func() bool { return told(&s.leaves) })
		stats, err := s.PresenceStats(soon())
		must(t, err)
		p.equal([]int{stats.NumClients, stats.NumUsers}, []int{1, 1})
	})
}

func TestHistoryIsReadByPagesInBothDirections(t *testing.T) {
	story(t, func(p people) {
		s := p.follow(p.join("anna"), "room:history", centrifuge.SubscriptionConfig{})
		p.server.say(p.T, "room:history", 1, 12)
		page := func(options ...centrifuge.HistoryOption) []uint64 {
			result, err := s.History(soon(), options...)
			must(t, err)
			offsets := []uint64{}
			for _, record := range result.Publications {
				offsets = append(offsets, record.Offset)
			}
			return offsets
		}
		top, err := s.History(soon())
		must(t, err)
		p.equal([]any{len(top.Publications), top.Offset}, []any{0, uint64(12)})
		p.equal(page(centrifuge.WithHistoryLimit(3)), []uint64{1, 2, 3})
		since := centrifuge.WithHistorySince(&centrifuge.StreamPosition{Offset: 10, Epoch: top.Epoch})
		p.equal(page(centrifuge.WithHistoryLimit(5), since), []uint64{11, 12})
		p.equal(page(centrifuge.WithHistoryLimit(3), centrifuge.WithHistoryReverse(true)), []uint64{12, 11, 10})
		p.equal(page(centrifuge.WithHistoryLimit(-1)), []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	})
}

func TestASessionIsRefreshedInBand(t *testing.T) {
	story(t, func(p people) {
		var lock sync.Mutex
		asked, connected := 0, 0
		counted := func(count *int) int { lock.Lock(); defer lock.Unlock(); return *count }
		client := p.client(centrifuge.Config{
			Token: token("anna", 2*time.Second, tokenSecret),
			GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) {
				lock.Lock()
				defer lock.Unlock()
				asked++
				return token("anna", time.Hour, tokenSecret), nil
			},
		})
		client.OnConnected(func(centrifuge.ConnectedEvent) { lock.Lock(); defer lock.Unlock(); connected++ })
		must(t, client.Connect())
		s := p.follow(client, "room:refresh", centrifuge.SubscriptionConfig{})
		until(p.T, "a refresh", func() bool { return counted(&asked) == 1 })
		_, err := s.Publish(soon(), body(1))
		must(t, err)
		p.sees(s, []int{1})
		p.equal(counted(&connected), 1)
	})
}

func TestAPublishWithAKeyHappensOnce(t *testing.T) {
	story(t, func(p people) {
		anna := p.join("anna")
		call := func() (told struct {
			Offset    uint64
			Duplicate bool
		}) {
			answer, err := anna.RPC(soon(), "fireside.publish", []byte(`{"channel":"room:keys","data":{"n":1},"key":"k"}`))
			must(t, err)
			must(t, json.Unmarshal(answer.Data, &told))
			return told
		}
		first, second := call(), call()
		p.equal([]any{first.Offset, first.Duplicate, second.Offset, second.Duplicate}, []any{uint64(1), false, uint64(1), true})
		_, err := anna.RPC(soon(), "no.such.method", []byte(`{}`))
		p.equal(code(err), uint32(108))
	})
}

func TestWhatIsRefused(t *testing.T) {
	story(t, func(p people) {
		eve := p.join("eve")
		for channel, wanted := range map[string]uint32{"closed:it": 103, "unheard-of:it": 102} {
			s := p.subscribe(eve, channel, centrifuge.SubscriptionConfig{})
			until(p.T, "the refusal of "+channel, func() bool { _, _, ends := s.count(); return ends == 1 })
			p.equal(s.ends, []uint32{wanted})
			_, err := eve.Publish(soon(), channel, body(1))
			p.equal(code(err), wanted)
		}
		if p.encoding == "protobuf" {
			_, err := eve.Publish(soon(), "room:binary", []byte("\xff\xfe no JSON"))
			p.equal(code(err), uint32(107))
			p.equal(eve.State(), centrifuge.StateConnected)
		}

		forged := p.client(centrifuge.Config{Token: token("eve", time.Hour, "another secret, just as long as the right one")})
		ended := make(chan uint32, 1)
		forged.OnDisconnected(func(e centrifuge.DisconnectedEvent) { ended <- e.Code })
		must(t, forged.Connect())
		select {
		case code := <-ended:
			p.equal(code, uint32(3500))
		case <-soon().Done():
			t.Fatal("waited in vain for the end of a forged token")
		}
	})
}

func TestRecordsComeAsPatchesOverARestart(t *testing.T) {
	story(t, func(p people) {
		s := p.follow(p.join("anna"), "room:delta", centrifuge.SubscriptionConfig{Delta: centrifuge.DeltaTypeFossil})
		long := strings.Repeat("Once upon a fire 🔥 ", 20)
		tell := func(from, to int) {
			for n := from; n <= to; n++ {
				_, err := s.Publish(soon(), fmt.Appendf(nil, `{"text":%q,"n":%d}`, long, n))
				must(t, err)
			}
		}
		tell(1, 10)
		p.sees(s, upTo(10))
		p.server.kill()
		p.server.run(p.T)
		until(p.T, "the subscription to come back", func() bool { _, starts, _ := s.count(); return starts > 1 })
		tell(11, 30)
		p.sees(s, upTo(30))
	})
}
