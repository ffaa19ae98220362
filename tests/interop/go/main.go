// Runs one suite of cases against the broker that AMQP_URL names.
//
// Prints `ok NAME` or `FAIL NAME: why` for each case; the exit code is 1 when a case failed.
//
//	AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f interop messages
package main

import (
	"fmt"
	"os"
)

// A testCase is called with a new connection; an error or a panic is a failure.
type testCase struct {
	name string
	run  func(*session)
}

var suites = map[string][]testCase{
	"messages":  messageCases,
	"exchanges": exchangeCases,
	"errors":    errorCases,
	"recovery":  recoveryCases,
	"amqp10":    amqp10Cases,
	"tls":       tlsCases,
}

func main() {
	if len(os.Args) != 2 || suites[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: interop messages|exchanges|errors|recovery|amqp10|tls")
		os.Exit(2)
	}
	failed := false
	for _, one := range suites[os.Args[1]] {
		if why := attempt(one); why != nil {
			failed = true
			fmt.Printf("FAIL %s: %v\n", one.name, why)
		} else {
			fmt.Printf("ok %s\n", one.name)
		}
	}
	if failed {
		os.Exit(1)
	}
}

// attempt runs one case and gives what it panicked with.
func attempt(one testCase) (why any) {
	defer func() { why = recover() }()
	s := newSession()
	defer s.connection.Close()
	one.run(s)
	return nil
}
