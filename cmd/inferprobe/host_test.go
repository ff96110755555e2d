package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/inferprobe/inferprobe/internal/selfcheck"
)

// TestHostIsTold: the log and the metric say of a bad host that it is one, and of a good one nothing but that.
func TestHostIsTold(t *testing.T) {
	for _, test := range []struct {
		name   string
		glance selfcheck.Glance
		good   bool
		says   string
	}{
		{"good", selfcheck.Glance{KernelTimes: true}, true, ""},
		{"late sleepers", selfcheck.Glance{KernelTimes: true, WakeDelay: selfcheck.Quantiles{P99: 0.0031}}, false,
			"sleeps end up to 3.1 ms late"},
		{"late readers", selfcheck.Glance{KernelTimes: true, ReceiveLag: selfcheck.Quantiles{P99: 0.0042}}, false,
			"data wait up to 4.2 ms"},
		{"no times", selfcheck.Glance{}, false, "the kernel does not tell"},
	} {
		var said bytes.Buffer
		var trusted []bool
		tellOfHost(slog.New(slog.NewTextHandler(&said, nil)), func(good bool) { trusted = append(trusted, good) }, test.glance)
		if len(trusted) != 1 || trusted[0] != test.good {
			t.Errorf("%s: trusted %v", test.name, trusted)
		}
		if line := said.String(); (line == "") != test.good || !strings.Contains(line, test.says) ||
			!test.good && !strings.Contains(line, "level=WARN") {
			t.Errorf("%s: the log says %q", test.name, line)
		}
	}
}
