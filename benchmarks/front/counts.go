package main

import (
	"encoding/json"
	"log"
	"net/http"
	"sync"
)

const countsPath = "/-counts" // no bucket's name begins so

// counts is what came through.
type counts struct {
	sync.Mutex
	Requests  map[string]int64 `json:"requests"`
	BytesUp   int64            `json:"bytes_up"`
	BytesDown int64            `json:"bytes_down"`
	Refused   int64            `json:"refused"`   // answered with 503
	Abandoned int64            `json:"abandoned"` // the client went away before the first byte
}

func (seen *counts) request(kind string) {
	seen.Lock()
	defer seen.Unlock()
	seen.Requests[kind]++
}

func (seen *counts) refused() {
	seen.Lock()
	defer seen.Unlock()
	seen.Refused++
}

func (seen *counts) abandoned() {
	seen.Lock()
	defer seen.Unlock()
	seen.Abandoned++
}

func (seen *counts) bytes(up, down int) {
	seen.Lock()
	defer seen.Unlock()
	seen.BytesUp += int64(up)
	seen.BytesDown += int64(down)
}

// serve answers with what was counted; a POST begins anew.
func (seen *counts) serve(answer http.ResponseWriter, request *http.Request) {
	seen.Lock()
	defer seen.Unlock()
	if request.Method == http.MethodPost {
		seen.Requests = map[string]int64{}
		seen.BytesUp, seen.BytesDown, seen.Refused, seen.Abandoned = 0, 0, 0, 0
	}
	answer.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(answer).Encode(seen); err != nil {
		log.Print(err)
	}
}
