package http1

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	inChunks    = chunkedHead + "2\r\nok\r\n"
)

var errNothingMore = errors.New("nothing more has come")

// TestLastBytes: what has come of an answer is there before its end is, wherever the end is cut in two.
func TestLastBytes(t *testing.T) {
	for _, end := range []string{"", "0", "0\r", "0\r\n", "0;a=b\r\n", "0\r\n\r", "0\r\nA: b\r\n", "0\r\n\r\n"} {
		come := io.MultiReader(strings.NewReader(inChunks+end), iotest.ErrReader(errNothingMore))
		response, err := ReadResponse(bufio.NewReader(come), &http.Request{Method: http.MethodPost})
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 3)
		if n, err := response.Body.Read(p); string(p[:n]) != "ok" || err != nil {
			t.Errorf("%q: got %q, %v", end, p[:n], err)
		}
		want := errNothingMore
		if end == "0\r\n\r\n" {
			want = io.EOF
		}
		for range 2 {
			if n, err := response.Body.Read(p); n != 0 || err != want {
				t.Errorf("%q: then %d bytes, %v; want %v", end, n, err, want)
			}
		}
	}
}

// TestPartsOfChunks: what has come of a body is there before what comes next, wherever that begins.
func TestPartsOfChunks(t *testing.T) {
	for _, test := range []struct{ come, want string }{
		{"2\r\no", "o"},
		{"2\r\nok", "ok"},
		{"2\r\nok\r", "ok"},
		{"2\r\nok\r\n5", "ok"},
		{"2\r\nok\r\n5\r\n", "ok"},
		{"2\r\nok\r\n5\r\nay", "okay"},
		{"0A;a=\"b\" \r\nok", "ok"},
		{"2 \t\r\nok\r\nb\r\nay", "okay"},
	} {
		come := io.MultiReader(strings.NewReader(chunkedHead+test.come), iotest.ErrReader(errNothingMore))
		response, err := ReadResponse(bufio.NewReader(come), &http.Request{Method: http.MethodPost})
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 99)
		if n, err := response.Body.Read(p); string(p[:n]) != test.want || err != nil {
			t.Errorf("%q: got %q, %v; want %q", test.come, p[:n], err, test.want)
		}
		if n, err := response.Body.Read(p); n != 0 || err != errNothingMore {
			t.Errorf("%q: then %q, %v", test.come, p[:n], err)
		}
	}
}

// TestBadChunks: the bytes before what is no chunk are none the worse for it.
func TestBadChunks(t *testing.T) {
	for _, test := range []struct {
		end string
		err error
	}{
		{"x\r\n", errChunkLength},
		{"\r\n", errChunkLength},
		{"-2\r\nok\r\n", errChunkLength},
		{"0x2\r\nok\r\n", errChunkLength},
		{"8000000000000000\r\n", errChunkLength},
		{"2\r\nokay\r\n", errChunkEnd},
		{"2\nok\r\n", errChunkEnd},
		{"2;\r\r\nok\r\n", errChunkEnd},
		{"2\r\nok", io.ErrUnexpectedEOF},
		{"2\r\nok\r", io.ErrUnexpectedEOF},
		{"3\r\nok", io.ErrUnexpectedEOF},
		{"3", io.ErrUnexpectedEOF},
		{"3;" + strings.Repeat("a", readBuffer) + "\r\nok\n\r\n", bufio.ErrBufferFull},
	} {
		in := bufio.NewReader(strings.NewReader(inChunks + test.end))
		response, err := ReadResponse(in, &http.Request{Method: http.MethodPost})
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != test.err || !strings.HasPrefix(string(body), "ok") {
			t.Errorf("%.20q: %q, %v; want %v", test.end, body, err, test.err)
		}
	}
}

func TestTrailers(t *testing.T) {
	for _, test := range []struct {
		name, end string
		err       error
	}{
		{"none", "0\r\n\r\n", nil},
		{"some", "0\r\nA: b\r\nC: d\r\n\r\n", nil},
		{"bare line feeds", "0\r\nA: b\n\n", nil},
		{"cut before", "0\r\n", io.ErrUnexpectedEOF},
		{"cut within", "0\r\nA: b", io.ErrUnexpectedEOF},
		{"long line", "0\r\nA: " + strings.Repeat("b", readBuffer) + "\r\n\r\n", bufio.ErrBufferFull},
		{"endless", "0\r\n" + strings.Repeat("A: b\r\n", maxHead/4), errTrailerTooLong},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, nil, func(c *peer) {
				c.request()
				c.send(inChunks + test.end)
				if test.err == nil {
					always(ok)(c)
				}
			})
			tr := newTransport(t, s.url(), Options{})
			if got, want := post(t, tr, "{}"), (answer{200, "ok", false, test.err}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if n := len(kept(tr)); n == 1 != (test.err == nil) {
				t.Errorf("%d connections are kept", n)
			}
		})
	}
}
