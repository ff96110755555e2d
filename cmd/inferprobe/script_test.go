//go:build cgo && hftokenizers

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the expected output in the scripts")

// smallTokenizer is a tokenizer that is loaded and proven in no time.
const smallTokenizer = "../../internal/prompt/testdata/tiny-script.json"

// TestMain makes inferprobe a program that tests can run: this test binary under that name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"inferprobe": main})
}

// TestScripts runs testdata/script. The scripts know these commands beside testscript's own:
//
//	exits CODE PROGRAM ARG…   runs a program that must end with this exit code
//	fails REASON PATTERN FLAG…  runs `inferprobe run`, which must exit with 1 and give reason and detail of its only
//	                          cycle's failure in log, report and JSON alike, and no secret anywhere
//	json FILE PATH PATTERN    matches a value of a JSON document; a path is such as stages.0.requests.completed
//	until URL PATTERN         asks for a document until it, or the error in its place, matches
//	gone URL PATTERN          asks for a document, which must not match
//	post CODE URL PATTERN     sends POST, whose answer must have this status and match
//	port VARIABLE             sets a variable to the address of a free port
//	fill FILE                 replaces the variables in a file by their values
//	terminate                 sends SIGTERM to what runs in the background
//	hangup                    sends it SIGHUP
//	hold ADDRESS              begins a request to the address, and never ends it
//	sim VARIABLE FLAG…        starts the simulator, with the flags of `inferprobe sim`
//	server VARIABLE KIND …    starts another server; see handlers
//
// A variable that is set to a server's URL has a second one beside it, VARIABLE_HOST, with its host and port.
// The environment has no variable of inferprobe's but TOKENIZER, which is $WORK/tokenizer.json.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TOKENIZER", filepath.Join(e.WorkDir, "tokenizer.json"))
			e.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector would wait for a second at each exit
			e.Setenv("HF_HOME", filepath.Join(e.WorkDir, "huggingface"))
			text, err := os.ReadFile(smallTokenizer)
			if err != nil {
				return err
			}
			return os.WriteFile(e.Getenv("TOKENIZER"), text, 0o666)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"fails":     fails,
			"hold":      hold,
			"json":      matchJSON,
			"until":     until,
			"port":      port,
			"fill":      fill,
			"terminate": signalAll(syscall.SIGTERM),
			"hangup":    signalAll(syscall.SIGHUP),
			"gone":      gone,
			"post":      post,
			"sim":       startSimulator,
			"server":    startServer,
		},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("there is no condition %s", name)
		},
	})
}

// need ends the script unless a command has its arguments.
func need(ts *testscript.TestScript, neg bool, args []string, least int, usage string) {
	if neg || len(args) < least {
		ts.Fatalf("usage: %s", usage)
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "exits CODE PROGRAM ARG…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code, err = exit.ExitCode(), nil
	}
	ts.Check(err)
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

func fails(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "fails REASON PATTERN FLAG…")
	const kept = "failed.json"
	ts.Setenv("COLUMNS", "1000") // nothing is wrapped
	run := []string{"1", "inferprobe", "run", "--output", "text", "--output", "json=" + kept}
	exits(ts, false, append(run, args[2:]...))

	var logged, reported struct {
		Level, Reason, Detail string
		Failure               struct{ Reason, Detail string }
	}
	lines := strings.Split(strings.TrimSpace(ts.ReadFile("stderr")), "\n")
	ts.Check(json.Unmarshal([]byte(lines[len(lines)-1]), &logged))
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(kept)), &reported))
	got, want := logged.Level+" "+logged.Reason, "ERROR "+args[0]
	if got != want || reported.Failure.Reason != args[0] {
		ts.Fatalf("log %s, report %s; want %s", got, reported.Failure.Reason, want)
	}
	if logged.Detail != reported.Failure.Detail || !regexp.MustCompile(args[1]).MatchString(logged.Detail) {
		ts.Fatalf("log     %s\nreport  %s\npattern %s", logged.Detail, reported.Failure.Detail, args[1])
	}
	if text := reported.Failure.Reason + ": " + reported.Failure.Detail; !strings.Contains(ts.ReadFile("stdout"), text) {
		ts.Fatalf("the report does not say %q", text)
	}
	for _, name := range []string{"OPENAI_API_KEY", "HF_TOKEN"} {
		for _, file := range []string{"stdout", "stderr", kept} {
			if secret := ts.Getenv(name); secret != "" && strings.Contains(ts.ReadFile(file), secret) {
				ts.Fatalf("%s is in %s", name, file)
			}
		}
	}
}

func matchJSON(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "json FILE PATH PATTERN")
	var value any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &value))
	for _, key := range strings.Split(args[1], ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[key]
		case []any:
			i, err := strconv.Atoi(key)
			ts.Check(err)
			if i >= len(v) {
				ts.Fatalf("%s: there are only %d", args[1], len(v))
			}
			value = v[i]
		default:
			ts.Fatalf("%s: there is no %s", args[1], key)
		}
	}
	text, ok := value.(string)
	if !ok {
		b, err := json.Marshal(value)
		ts.Check(err)
		text = string(b)
	}
	if !regexp.MustCompile(args[2]).MatchString(text) {
		ts.Fatalf("%s is %s", args[1], text)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "until URL PATTERN")
	pattern := regexp.MustCompile("(?m)" + args[1])
	var last string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if last = get(args[0]); pattern.MatchString(last) {
			return
		}
	}
	ts.Fatalf("%s never matched; the last answer:\n%s", args[0], last)
}

// get returns a document, or the text of the error in its place.
func get(url string) string {
	response, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func hold(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "hold ADDRESS")
	conn, err := net.Dial("tcp", args[0])
	ts.Check(err)
	ts.Defer(func() { conn.Close() })
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\n")
	ts.Check(err)
}

func port(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "port VARIABLE")
	l := listen(ts)
	ts.Check(l.Close())
	ts.Setenv(args[0], l.Addr().String())
}

func fill(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "fill FILE")
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o666))
}

// signalAll returns a command that sends a signal to what runs in the background.
func signalAll(signal syscall.Signal) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		need(ts, neg, args, 0, "terminate, hangup")
		for _, c := range ts.BackgroundCmds() {
			if c.ProcessState == nil {
				ts.Check(c.Process.Signal(signal))
			}
		}
	}
}

func gone(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "gone URL PATTERN")
	if answer := get(args[0]); regexp.MustCompile("(?m)" + args[1]).MatchString(answer) {
		ts.Fatalf("%s has %s", args[0], args[1])
	}
}

func post(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "post CODE URL PATTERN")
	response, err := http.Post(args[1], "", nil)
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	if strconv.Itoa(response.StatusCode) != args[0] || !regexp.MustCompile("(?m)"+args[2]).Match(body) {
		ts.Fatalf("POST %s: %s\n%s", args[1], response.Status, body)
	}
}
