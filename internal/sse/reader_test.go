package sse

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

type event struct {
	Name, Data   string
	Unterminated bool
}

// readAll reads every event of r, and the error that ended the stream.
func readAll(r *Reader) ([]event, error) {
	var events []event
	for {
		e, err := r.Next()
		if err != nil {
			return events, err
		}
		events = append(events, event{string(e.Name), string(e.Data), e.Unterminated})
	}
}

// reference is the standard's algorithm written down step by step over the whole stream.
func reference(stream string) []event {
	stream = strings.TrimPrefix(stream, "\ufeff")
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(stream, "\n")
	var events []event
	var data []string
	var name string
	for i, line := range lines {
		last := i == len(lines)-1 // what follows the last line end
		if line != "" {
			field, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch field {
			case "data":
				data = append(data, value)
			case "event":
				name = value
			}
		}
		if line == "" && !last || last {
			if len(data) > 0 {
				events = append(events, event{name, strings.Join(data, "\n"), last})
			}
			data, name = nil, ""
		}
	}
	return events
}

var streams = []struct {
	name, stream string
	want         []event
	comments     int
}{
	{"empty", "", nil, 0},
	{"one", "data: a\n\n", []event{{"", "a", false}}, 0},
	{"no blank after the colon", "data:a\n\n", []event{{"", "a", false}}, 0},
	{"only one blank is taken off", "data:  a \n\n", []event{{"", " a ", false}}, 0},
	{"two", "data: a\n\ndata: b\n\n", []event{{"", "a", false}, {"", "b", false}}, 0},
	{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", []event{{"", "a", false}, {"", "b", false}}, 0},
	{"CR", "data: a\r\rdata: b\r\r", []event{{"", "a", false}, {"", "b", false}}, 0},
	{"mixed line ends", "data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\r",
		[]event{{"", "a\nb\nc", false}, {"", "d", false}}, 0},
	{"several data lines", "data: a\ndata\ndata: \ndata: b\n\n", []event{{"", "a\n\n\nb", false}}, 0},
	{"empty data", "data\n\ndata:\n\n", []event{{"", "", false}, {"", "", false}}, 0},
	{"name", "event: error\ndata: a\n\ndata: b\n\n", []event{{"error", "a", false}, {"", "b", false}}, 0},
	{"name without data", "event: ping\n\ndata: a\n\n", []event{{"", "a", false}}, 0},
	{"the last name counts", "event: a\nevent\nevent: b\ndata: x\n\n", []event{{"b", "x", false}}, 0},
	{"comments", ": ping\n\n:\n\ndata: a\n: in between\n\n", []event{{"", "a", false}}, 3},
	{"other fields", "id: 1\nretry: 5\nfoo: bar\ndatax: y\nData: z\ndata: a\n\n", []event{{"", "a", false}}, 0},
	{"byte order mark", "\ufeffdata: a\n\n", []event{{"", "a", false}}, 0},
	{"one mark only", "\ufeff\ufeffdata: a\n\ndata: b\n\n", []event{{"", "b", false}}, 0},
	{"half a mark", "\xef\xbb", nil, 0},
	{"no mark in the middle", "data: a\n\n\ufeffdata: b\n\n", []event{{"", "a", false}}, 0},
	{"no blank line at the end", "data: a\n\ndata: b\n", []event{{"", "a", false}, {"", "b", true}}, 0},
	{"no line end at the end", "data: a\n\ndata: b", []event{{"", "a", false}, {"", "b", true}}, 0},
	{"comment at the end", "data: a\n\n: x", []event{{"", "a", false}}, 1},
	{"name alone at the end", "data: a\n\nevent: x", []event{{"", "a", false}}, 0},
	{"blank lines", "\n\n\r\rdata: a\n\n\n\n", []event{{"", "a", false}}, 0},
}

func TestNext(t *testing.T) {
	for _, test := range streams {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, reference(test.stream)); diff != "" {
				t.Fatalf("the reference of this test is wrong:\n%s", diff)
			}
			for name, wrap := range map[string]func(io.Reader) io.Reader{
				"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader,
				"error with data": iotest.DataErrReader,
			} {
				r := NewReader(wrap(strings.NewReader(test.stream)), nil)
				got, err := readAll(r)
				if err != io.EOF || r.Comments() != test.comments {
					t.Errorf("%s: error %v with %d comments, want EOF with %d", name, err, r.Comments(), test.comments)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// TestSplitAnywhere cuts every stream in two at every byte, and reads the two parts one after the other.
func TestSplitAnywhere(t *testing.T) {
	for _, test := range streams {
		for i := range len(test.stream) + 1 {
			src := io.MultiReader(strings.NewReader(test.stream[:i]), strings.NewReader(test.stream[i:]))
			got, err := readAll(NewReader(src, nil))
			if diff := cmp.Diff(test.want, got); err != io.EOF || diff != "" {
				t.Errorf("%s, cut at %d: error %v (-want +got):\n%s", test.name, i, err, diff)
			}
		}
	}
}

func TestAnotherErrorDiscardsTheCutEvent(t *testing.T) {
	for _, rest := range []string{"data: b", "data: b\n", "data"} {
		src := io.MultiReader(strings.NewReader("data: a\n\n"+rest), iotest.ErrReader(io.ErrUnexpectedEOF))
		r := NewReader(src, nil)
		got, err := readAll(r)
		if diff := cmp.Diff([]event{{"", "a", false}}, got); diff != "" || err != io.ErrUnexpectedEOF {
			t.Errorf("rest %q: error %v (-want +got):\n%s", rest, err, diff)
		}
		if _, err := r.Next(); err != io.ErrUnexpectedEOF {
			t.Errorf("rest %q: the error does not stay, it became %v", rest, err)
		}
	}
}

// reads is a stream that comes in the given pieces, with a clock that tells which piece was the last.
type reads struct {
	pieces []string
	epoch  time.Time
	done   int
}

func (r *reads) Read(p []byte) (int, error) {
	if r.done == len(r.pieces) {
		return 0, io.EOF
	}
	n := copy(p, r.pieces[r.done])
	if r.pieces[r.done] = r.pieces[r.done][n:]; r.pieces[r.done] == "" {
		r.done++
	}
	return n, nil
}

func (r *reads) stamp() (time.Time, time.Duration) {
	return r.epoch.Add(time.Duration(r.done)), time.Duration(r.done) * time.Second
}

func TestEventHasTheTimeOfTheReadThatCompletedIt(t *testing.T) {
	src := &reads{pieces: []string{
		"data: 1\n\ndata: 1 too\n\nda", "ta: 3", "\n", "\n", "data: 4 too\n\ndata: at the end",
	}}
	r := NewReader(src, src.stamp)
	want := []time.Duration{1, 1, 4, 5, 5}
	for i, read := range want {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.At.Sub(src.epoch) != read || e.Lag != read*time.Second {
			t.Errorf("event %d %q: read %d with lag %v, want read %d", i, e.Data, e.At.Sub(src.epoch), e.Lag, read)
		}
	}
}

// endless gives its pattern for ever, in reads of any size.
type endless struct {
	pattern string
	given   int
}

func (e *endless) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		some := copy(p[n:], e.pattern[e.given%len(e.pattern):])
		n, e.given = n+some, e.given+some
	}
	return len(p), nil
}

func TestTooLong(t *testing.T) {
	for name, src := range map[string]*endless{
		"line without end":  {pattern: "x"},
		"comment":           {pattern: ":"},
		"data lines":        {pattern: "data: x\n"},
		"empty data lines":  {pattern: "data\n"},
		"comments in event": {pattern: ": x\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var start io.Reader = strings.NewReader("data: x\n\n")
			if name == "comments in event" {
				start = strings.NewReader("data: x\n\ndata: y\n")
			}
			r := NewReader(io.MultiReader(start, src), nil)
			r.max = 1 << 20
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Next(); !errors.Is(err, ErrTooLong) {
				t.Errorf("error %v, want ErrTooLong", err)
			}
			if src.given > 6<<20 { // each empty data line adds one byte of its five
				t.Errorf("gave up only after %d bytes", src.given)
			}
		})
	}
}

// Of streams that share their places only so many have long events at a time, and a stream that ends gives its place back.
func TestLimitLong(t *testing.T) {
	long := "data: " + strings.Repeat("x", 3*LongEvent) + "\n\n"
	places := make(chan struct{}, 2)
	begin := func() *Reader {
		r := NewReader(strings.NewReader(long+long+"data: a\n\n"), nil)
		r.LimitLong(places)
		return r
	}
	first, second, third := begin(), begin(), begin()
	for _, r := range []*Reader{first, second, first} {
		if e, err := r.Next(); err != nil || len(e.Data) < LongEvent {
			t.Fatalf("a stream with a place: %v", err)
		}
	}
	if _, err := third.Next(); !errors.Is(err, ErrTooManyLong) {
		t.Errorf("without a place: error %v", err)
	}
	second.Reset(nil, nil)
	fourth := begin()
	if _, err := fourth.Next(); err != nil {
		t.Errorf("after another has ended: %v", err)
	}
	first.Reset(nil, nil)
	third.Reset(nil, nil)
	fourth.Reset(nil, nil)
	if len(places) != 0 {
		t.Errorf("%d places are lost", len(places))
	}
}

func TestLongEvents(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB
	stream := "data: a\n\ndata: " + long + "\n\ndata: x\ndata: " + long + "\n\ndata: b\n\n"
	r := NewReader(strings.NewReader(stream), nil)
	got, err := readAll(r)
	want := []event{{"", "a", false}, {"", long, false}, {"", "x\n" + long, false}, {"", "b", false}}
	if err != io.EOF || !cmp.Equal(want, got) {
		t.Errorf("error %v, %d events", err, len(got))
	}
	r.Reset(strings.NewReader("data: c\n\n"), nil)
	if len(r.buf) > keptBuffer || cap(r.joined) > keptBuffer {
		t.Errorf("Reset kept buffers of %d and %d bytes", len(r.buf), cap(r.joined))
	}
	if e, err := r.Next(); string(e.Data) != "c" || err != nil {
		t.Errorf("after Reset: %q, %v", e.Data, err)
	}
}

func TestEndlessCommentsNeedNoMemory(t *testing.T) {
	src := &endless{pattern: ": ping\n\n"}
	r := NewReader(io.MultiReader(io.LimitReader(src, 4<<20), strings.NewReader("data: a\n\n")), nil)
	if e, err := r.Next(); string(e.Data) != "a" || err != nil {
		t.Fatalf("%q, %v", e.Data, err)
	}
	if len(r.buf) != busyBuffer || r.Comments() != 4<<20/8 {
		t.Errorf("buffer of %d bytes, %d comments", len(r.buf), r.Comments())
	}
}

func TestStray(t *testing.T) {
	for _, test := range []struct{ stream, want string }{
		{"data: a\n\n: b\n\nid: c\nretry: 1\nevent: d\nid\n\n", ""},
		{"{\n  \"data\": 1\n}", "{\n  \"data\": 1\n}\n"},
		{"<p>\n\ndata: a\n\nb", "<p>\nb\n"},
		{strings.Repeat("a", maxStray-2) + "\nbb\nc", strings.Repeat("a", maxStray-2) + "\nb\n"},
	} {
		r := NewReader(strings.NewReader(test.stream), nil)
		if _, err := readAll(r); err != io.EOF || string(r.Stray()) != test.want {
			t.Errorf("%.20q: stray %.20q, want %.20q; error %v", test.stream, r.Stray(), test.want, err)
		}
		if r.Reset(nil, nil); len(r.Stray()) != 0 {
			t.Errorf("%.20q: Reset keeps %.20q", test.stream, r.Stray())
		}
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestNoProgress(t *testing.T) {
	if _, err := NewReader(stuck{}, nil).Next(); err != io.ErrNoProgress {
		t.Errorf("error %v, want io.ErrNoProgress", err)
	}
}

const tokenEvent = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk",` +
	`"choices":[{"index":0,"delta":{"content":" the"}}]}` + "\n\n"

func TestEventsAllocateNothing(t *testing.T) {
	for name, stream := range map[string]string{
		"one line": tokenEvent, "two lines": "event: x\ndata: a\ndata: b\n\n", "CRLF": "data: a\r\n\r\n",
	} {
		r := NewReader(&endless{pattern: stream}, func() (time.Time, time.Duration) { return time.Time{}, 0 })
		r.Next()
		if allocs := testing.AllocsPerRun(1000, func() { r.Next() }); allocs != 0 {
			t.Errorf("%s: %v allocations an event, want none", name, allocs)
		}
	}
}

// bounded reads up to so many bytes at a time, 0 = as many as there is room for.
type bounded struct {
	src  io.Reader
	most int
}

func (b bounded) Read(p []byte) (int, error) {
	if b.most > 0 {
		p = p[:min(len(p), b.most)]
	}
	return b.src.Read(p)
}

func FuzzNext(f *testing.F) {
	for _, test := range streams {
		f.Add([]byte(test.stream), uint16(3), uint16(5))
	}
	f.Fuzz(func(t *testing.T, stream []byte, first, size uint16) {
		src := io.MultiReader(
			bytes.NewReader(stream[:min(int(first), len(stream))]), bytes.NewReader(stream[min(int(first), len(stream)):]))
		r := NewReader(bounded{src, int(size)}, nil)
		got, err := readAll(r)
		if err != io.EOF {
			t.Fatal(err)
		}
		if diff := cmp.Diff(reference(string(stream)), got); diff != "" {
			t.Errorf("stream %q, first read %d, then %d (-want +got):\n%s", stream, first, size, diff)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	r := NewReader(&endless{pattern: tokenEvent}, func() (time.Time, time.Duration) { return time.Time{}, 0 })
	b.SetBytes(int64(len(tokenEvent)))
	b.ReportAllocs()
	for b.Loop() {
		r.Next()
	}
}
