package kafka
import ("testing";"fmt";"time";"sync";"weir/buffer";"syscall";"math/rand")
func TestTmpBench(t *testing.T) {
	o := Options{Brokers: []string{"127.0.0.1:19092"}, ClientID:"b"}
	topic := fmt.Sprintf("kafkasink-bench-%d", time.Now().UnixNano())
	if err := EnsureTopic(t.Context(), o, topic, 3, -1); err != nil { t.Fatal(err) }
	defer func(){ _ = o }()
	s := NewSink(o, topic); defer s.Close()
	for _, keyed := range []bool{false,true} {
	var ru0, ru1 syscall.Rusage
	syscall.Getrusage(0,&ru0)
	start := time.Now()
	var wg sync.WaitGroup
	var total int64
	for w := range 4 {
		wg.Go(func(){
			for n := range 30 {
				recs := make([]buffer.Record, 2000)
				for i := range recs { v := make([]byte, 1500); rand.Read(v[:100]); recs[i] = buffer.Record{Value:v, Headers: []buffer.Header{{Key:"weir.topic",Value:[]byte("edr")},{Key:"weir.offset",Value:[]byte("12345")},{Key:"weir.reason",Value:[]byte("mapper_parsing_exception")}}}
					if keyed { recs[i].Key = fmt.Appendf(nil,"%d-%d-%d",w,n,i)} }
				b := batchOf(recs...)
				out, err := s.Deliver(t.Context(), b, func(){})
				if err != nil { t.Error(err); return }
				for _, x := range out { if x.Verdict != 1 { t.Error(x); return } }
			}
		})
	}
	wg.Wait(); total = 4*30*2000
	d := time.Since(start)
	syscall.Getrusage(0,&ru1)
	cpu := time.Duration(ru1.Utime.Nano()+ru1.Stime.Nano()-ru0.Utime.Nano()-ru0.Stime.Nano())
	t.Logf("keyed %v: %d records in %v = %.0f/s, %.1f MB/s, cpu %v", keyed, total, d, float64(total)/d.Seconds(), float64(total)*1.5e-3/d.Seconds(), cpu)
	}
	t.Log(topic)
}
