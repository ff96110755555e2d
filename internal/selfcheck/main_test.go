package selfcheck

import (
	"context"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/inferprobe/inferprobe/internal/sim"
)

// childVariable makes the test binary be one of the children that the package starts.
const childVariable = "SELFCHECK_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "simulator":
		simulate()
	case "refusing":
		fmt.Fprintln(os.Stderr, "inferprobe: no such flag")
		os.Exit(2)
	case "silent":
		time.Sleep(time.Minute)
	case "neighbour":
		Spin(os.Stdin)
	default:
		goleak.VerifyTestMain(m)
	}
}

// simulate is `inferprobe sim` with the timing of every scenario.
func simulate() {
	server, err := sim.New(sim.Options{
		Fixed: &sim.FixedTiming{TimeToFirstToken: timeToFirstToken, InterTokenLatency: interTokenLatency},
	})
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stderr, "simulated endpoint  http://%s/v1\n", l.Addr())
	server.Serve(context.Background(), l)
}
