// A front before an S3 server: it counts requests and bytes, and can be as slow as S3 is, and as busy.
//
// Nothing is limited unless -limits says so. GET /-counts on the front itself answers with what was counted, POST /-counts?round=N begins anew, with the delays of that round.
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
	"strconv"
	"strings"
	"sync"
	"time"
)

const slowDown = `<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message><RequestId>emulated</RequestId></Error>`

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

type front struct {
	limits   limits
	seen     *counts
	dice     *dice
	prefixes *prefixes
	up, down pace
	server   http.Handler
}

func main() {
	address := flag.String("address", "", "where to listen")
	upstream := flag.String("upstream", "", "URL of the server")
	told := flag.String("limits", "{}", "the limits, as JSON")
	flag.Parse()
	server, err := url.Parse(*upstream)
	if err != nil {
		log.Fatal(err)
	}
	front := &front{seen: &counts{Requests: map[string]int64{}}}
	if err := json.Unmarshal([]byte(*told), &front.limits); err != nil {
		log.Fatal(err)
	}
	front.dice = &dice{seed: front.limits.Seed, drawn: map[string]uint64{}}
	front.prefixes = &prefixes{limits: &front.limits, began: time.Now(), seen: map[string]int64{}}
	front.up.rate, front.down.rate = front.limits.Total, front.limits.Total
	front.server = front.proxy(server)
	listening := &http.Server{
		Addr:    *address,
		Handler: front,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			rate := front.limits.Connection
			return context.WithValue(ctx, connectionKey{}, &connection{up: pace{rate: rate}, down: pace{rate: rate}})
		},
	}
	log.Fatal(listening.ListenAndServe())
}

func (front *front) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	if request.URL.Path == countsPath {
		if request.Method == http.MethodPost {
			// Another seed each round, and the same for all who take part in it.
			round, _ := strconv.ParseUint(request.URL.Query().Get("round"), 10, 64)
			front.dice.begin(front.limits.Seed + round)
		}
		front.seen.serve(answer, request)
		return
	}
	kind := kind(request)
	front.seen.request(kind)
	if !front.prefixes.admits(kind, request.URL.Path, time.Now()) {
		front.refuse(answer, request)
		return
	}
	waited := time.NewTimer(front.limits.wait(kind, front.dice))
	select {
	case <-waited.C:
	case <-request.Context().Done():
		// Who does not wait any longer gets nothing, and costs the server nothing.
		waited.Stop()
		front.seen.abandoned()
		return
	}
	if request.Body != nil && request.Body != http.NoBody {
		body := &paced{ReadCloser: request.Body, seen: func(size int) { front.seen.bytes(size, 0) }}
		body.paces = front.paces(request, func(own *connection) *pace { return &own.up }, &front.up)
		request.Body = body
	}
	front.server.ServeHTTP(answer, request)
}

func (front *front) refuse(answer http.ResponseWriter, request *http.Request) {
	front.seen.refused()
	if request.Header.Get("Expect") == "" {
		// A client that sends everything first would see a broken connection, not the answer.
		size, _ := io.Copy(io.Discard, request.Body)
		front.seen.bytes(int(size), 0)
	}
	answer.Header().Set("Content-Type", "application/xml")
	answer.WriteHeader(http.StatusServiceUnavailable)
	if request.Method != http.MethodHead {
		_, _ = io.WriteString(answer, slowDown)
	}
}

func (front *front) paces(request *http.Request, own func(*connection) *pace, all *pace) []*pace {
	if front.limits.Total == 0 && front.limits.Connection == 0 {
		return nil
	}
	return []*pace{own(request.Context().Value(connectionKey{}).(*connection)), all}
}

func (front *front) proxy(server *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(passed *httputil.ProxyRequest) {
			// Path, query and Host as they came: they are signed.
			passed.Out.URL.Scheme, passed.Out.URL.Host = server.Scheme, server.Host
			passed.Out.URL.RawQuery = passed.In.URL.RawQuery
			passed.Out.Host = passed.In.Host
		},
		ModifyResponse: func(answer *http.Response) error {
			body := &paced{ReadCloser: answer.Body, seen: func(size int) { front.seen.bytes(0, size) }}
			body.paces = front.paces(answer.Request, func(own *connection) *pace { return &own.down }, &front.down)
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
}
