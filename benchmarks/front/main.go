// A front before an S3 server: it counts requests and bytes, and can be as slow as S3 is.
//
// Every limit is off unless a flag sets it. GET /-counts on the front itself answers with what was counted, POST /-counts begins anew.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	countsPath = "/-counts" // no bucket's name begins so
	piece      = 64 << 10
	burst      = 5 * time.Millisecond
)

// counts is what came through.
type counts struct {
	sync.Mutex
	Requests  map[string]int64 `json:"requests"`
	BytesUp   int64            `json:"bytes_up"`
	BytesDown int64            `json:"bytes_down"`
}

func (seen *counts) request(kind string) {
	seen.Lock()
	defer seen.Unlock()
	seen.Requests[kind]++
}

func (seen *counts) bytes(up, down int) {
	seen.Lock()
	defer seen.Unlock()
	seen.BytesUp += int64(up)
	seen.BytesDown += int64(down)
}

func (seen *counts) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	seen.Lock()
	defer seen.Unlock()
	if request.Method == http.MethodPost {
		seen.Requests, seen.BytesUp, seen.BytesDown = map[string]int64{}, 0, 0
	}
	answer.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(answer).Encode(seen); err != nil {
		log.Print(err)
	}
}

// pace lets bytes through at a rate, in the order in which they are asked for.
type pace struct {
	sync.Mutex
	rate float64 // bytes a second; 0 for any
	next time.Time
}

// turn returns when the next bytes may pass.
func (pace *pace) turn(size int, now time.Time) time.Time {
	if pace.rate == 0 {
		return now
	}
	pace.Lock()
	defer pace.Unlock()
	if earliest := now.Add(-burst); pace.next.Before(earliest) {
		pace.next = earliest
	}
	pace.next = pace.next.Add(time.Duration(float64(size) / pace.rate * float64(time.Second)))
	return pace.next
}

// paced is a body that comes through several paces at once.
type paced struct {
	io.ReadCloser
	paces []*pace
	seen  func(int)
}

func (body *paced) Read(buffer []byte) (int, error) {
	if len(body.paces) > 0 && len(buffer) > piece {
		buffer = buffer[:piece]
	}
	size, err := body.ReadCloser.Read(buffer)
	body.seen(size)
	now := time.Now()
	latest := now
	for _, one := range body.paces {
		if turn := one.turn(size, now); turn.After(latest) {
			latest = turn
		}
	}
	if wait := latest.Sub(now); wait > time.Millisecond {
		time.Sleep(wait)
	}
	return size, err
}

// buffers keeps what bodies are copied with.
type buffers struct{ sync.Pool }

func (kept *buffers) Get() []byte       { return *kept.Pool.Get().(*[]byte) }
func (kept *buffers) Put(buffer []byte) { kept.Pool.Put(&buffer) }

// kind says what a request is, as S3's price list has it.
func kind(request *http.Request) string {
	inside := strings.Trim(request.URL.Path, "/")
	if request.Method == http.MethodGet && !strings.Contains(inside, "/") {
		return "LIST"
	}
	return request.Method
}

type connection struct{ up, down pace }

type connectionKey struct{}

func main() {
	address := flag.String("address", "", "where to listen")
	upstream := flag.String("upstream", "", "URL of the server")
	perConnection := flag.Float64("connection", 0, "bytes a second of one connection, each way")
	total := flag.Float64("total", 0, "bytes a second of all connections, each way")
	firstByte := flag.Duration("first-byte", 0, "wait before a GET or HEAD")
	put := flag.Duration("put", 0, "wait before a PUT, POST or DELETE")
	list := flag.Duration("list", 0, "wait before a LIST")
	flag.Parse()
	server, err := url.Parse(*upstream)
	if err != nil {
		log.Fatal(err)
	}
	seen := &counts{Requests: map[string]int64{}}
	up, down := &pace{rate: *total}, &pace{rate: *total}
	limited := *total > 0 || *perConnection > 0
	waits := map[string]time.Duration{"GET": *firstByte, "HEAD": *firstByte, "LIST": *list}

	proxy := &httputil.ReverseProxy{
		Rewrite: func(passed *httputil.ProxyRequest) {
			// Path, query and Host as they came: they are signed.
			passed.Out.URL.Scheme, passed.Out.URL.Host = server.Scheme, server.Host
			passed.Out.URL.RawQuery = passed.In.URL.RawQuery
			passed.Out.Host = passed.In.Host
		},
		ModifyResponse: func(answer *http.Response) error {
			body := &paced{ReadCloser: answer.Body, seen: func(size int) { seen.bytes(0, size) }}
			if limited {
				own := answer.Request.Context().Value(connectionKey{}).(*connection)
				body.paces = []*pace{&own.down, down}
			}
			answer.Body = body
			return nil
		},
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 1024,
			DisableCompression:  true,
			ReadBufferSize:      piece,
			WriteBufferSize:     piece,
		},
		BufferPool: &buffers{sync.Pool{New: func() any { buffer := make([]byte, 4*piece); return &buffer }}},
		ErrorLog:   log.New(io.Discard, "", 0),
	}
	handle := func(answer http.ResponseWriter, request *http.Request) {
		if request.URL.Path == countsPath {
			seen.ServeHTTP(answer, request)
			return
		}
		kind := kind(request)
		seen.request(kind)
		wait, known := waits[kind]
		if !known {
			wait = *put
		}
		time.Sleep(wait)
		if request.Body != nil && request.Body != http.NoBody {
			body := &paced{ReadCloser: request.Body, seen: func(size int) { seen.bytes(size, 0) }}
			if limited {
				own := request.Context().Value(connectionKey{}).(*connection)
				body.paces = []*pace{&own.up, up}
			}
			request.Body = body
		}
		proxy.ServeHTTP(answer, request)
	}
	front := &http.Server{
		Addr:    *address,
		Handler: http.HandlerFunc(handle),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, &connection{up: pace{rate: *perConnection}, down: pace{rate: *perConnection}})
		},
	}
	log.Fatal(front.ListenAndServe())
}
