// The task "by_airport": a plain program that knows nothing of datalayer but two directories.
//
// It reads every CSV file in $DATALAYER_IN/extract/csv and writes $DATALAYER_OUT/default/by_airport.csv: for each pair of origin and
// destination the number of flights, how many were cancelled, and the mean delays and air time of those that flew.
package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"sort"
	"strconv"
)

type route struct{ origin, dest string }

// mean keeps a sum of whole minutes, so that the order of the rows cannot change the result.
type mean struct{ sum, count int64 }

func (m *mean) add(text string) error {
	if text == "" {
		return nil
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return err
	}
	m.sum += value
	m.count++
	return nil
}

func (m mean) text() string {
	if m.count == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(m.sum)/float64(m.count), 'f', 3, 64)
}

type figures struct {
	flights, cancelled                    int64
	departureDelay, arrivalDelay, airTime mean
}

func main() {
	log.SetFlags(0)
	if err := run(os.Getenv("DATALAYER_IN"), os.Getenv("DATALAYER_OUT")); err != nil {
		log.Fatal("by_airport: ", err)
	}
}

func run(in, out string) error {
	if in == "" || out == "" {
		return errors.New("DATALAYER_IN and DATALAYER_OUT must be set: start this with `datalayer run`")
	}
	names, err := filepath.Glob(filepath.Join(in, "extract", "csv", "*.csv"))
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("no CSV file in %s/extract/csv", in)
	}
	found := map[route]*figures{}
	for _, name := range names {
		if err := count(name, found); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return write(filepath.Join(out, "default", "by_airport.csv"), found)
}

func count(name string, found map[route]*figures) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	reader := csv.NewReader(file)
	reader.ReuseRecord = true
	header, err := reader.Read()
	if err != nil {
		return err
	}
	columns := map[string]int{}
	for index, column := range header {
		columns[column] = index
	}
	for _, column := range []string{"origin", "dest", "dep_delay", "arr_delay", "air_time"} {
		if _, there := columns[column]; !there {
			return fmt.Errorf("there is no column %q", column)
		}
	}
	for {
		row, err := reader.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		key := route{row[columns["origin"]], row[columns["dest"]]}
		one := found[key]
		if one == nil {
			one = &figures{}
			found[key] = one
		}
		one.flights++
		if row[columns["dep_delay"]] == "" {
			one.cancelled++
		}
		for column, into := range map[string]*mean{"dep_delay": &one.departureDelay, "arr_delay": &one.arrivalDelay, "air_time": &one.airTime} {
			if err := into.add(row[columns[column]]); err != nil {
				return err
			}
		}
	}
}

func write(name string, found map[route]*figures) (err error) {
	routes := make([]route, 0, len(found))
	for key := range found {
		routes = append(routes, key)
	}
	sort.Slice(routes, func(i, j int) bool {
		if routes[i].origin != routes[j].origin {
			return routes[i].origin < routes[j].origin
		}
		return routes[i].dest < routes[j].dest
	})
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if closing := file.Close(); err == nil {
			err = closing
		}
	}()
	writer := csv.NewWriter(file)
	if err := writer.Write([]string{"origin", "dest", "flights", "cancelled", "mean_dep_delay", "mean_arr_delay", "mean_air_time"}); err != nil {
		return err
	}
	for _, key := range routes {
		one := found[key]
		row := []string{
			key.origin, key.dest, strconv.FormatInt(one.flights, 10), strconv.FormatInt(one.cancelled, 10),
			one.departureDelay.text(), one.arrivalDelay.text(), one.airTime.text(),
		}
		if err := writer.Write(row); err != nil {
			return err
		}
	}
	writer.Flush()
	return writer.Error()
}
