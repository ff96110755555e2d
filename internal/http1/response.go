package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
)

var (
	errChunkLength    = errors.New("invalid byte in chunk length")
	errChunkEnd       = errors.New("malformed chunked encoding")
	errTrailerTooLong = errors.New("the trailer of the response is longer than 64 KiB")
)

// ReadResponse is http.ReadResponse with a body in chunks whose reads wait for nothing once they have a byte. Those of
// net/http wait for the rest of a chunk, and behind the last one for the blank line, which servers send apart (llama.cpp
// does): what has come before seems to come as late.
func ReadResponse(in *bufio.Reader, request *http.Request) (*http.Response, error) {
	response, err := http.ReadResponse(in, request)
	if err == nil && len(response.TransferEncoding) > 0 && response.Body != http.NoBody {
		response.Body = &chunked{in: in}
	}
	return response, err
}

// chunked is a body in chunks (RFC 9112, section 7.1), the only transfer encoding that net/http lets pass.
type chunked struct {
	in    *bufio.Reader
	left  int64 // bytes of the chunk that is being read
	begun bool  // there was a chunk, whose line end comes before the next
	last  bool  // the last chunk has been read
	end   error // what ended the body
}

func (c *chunked) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && c.end == nil && (n == 0 || c.atHand()) {
		switch {
		case c.left > 0:
			m, err := c.in.Read(p[n:][:min(int64(len(p)-n), c.left)])
			n += m
			c.left -= int64(m)
			c.end = cutOff(err)
		case c.last:
			c.end = c.trailer()
		default:
			c.end = c.next()
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, c.end
}

// atHand reports whether the body goes on with what has been read from the connection already.
func (c *chunked) atHand() bool {
	buffered, _ := c.in.Peek(c.in.Buffered())
	switch {
	case c.left > 0:
		return len(buffered) > 0
	case c.last:
		return false
	}
	return len(buffered) > 2 && bytes.IndexByte(buffered[2:], '\n') >= 0
}

// next reads up to the bytes of the next chunk.
func (c *chunked) next() error {
	if c.begun {
		end, err := c.in.Peek(2)
		if err != nil {
			return cutOff(err)
		}
		if string(end) != "\r\n" {
			return errChunkEnd
		}
		_, _ = c.in.Discard(2) // they are there
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return cutOff(err)
	}
	line, whole := bytes.CutSuffix(line, []byte("\r\n"))
	if !whole || bytes.IndexByte(line, '\r') >= 0 { // where others see another line end they see another answer
		return errChunkEnd
	}
	length, _, _ := bytes.Cut(line, []byte(";")) // what follows are extensions
	size, err := strconv.ParseUint(string(bytes.TrimRight(length, " \t")), 16, 63)
	if err != nil {
		return errChunkLength
	}
	c.left, c.begun, c.last = int64(size), true, size == 0
	return nil
}

func (c *chunked) Close() error { return nil }

// trailer reads up to the blank line that ends the answer. What the fields before it say is of no use here.
func (c *chunked) trailer() error {
	for size := 0; size < maxHead; {
		line, err := c.in.ReadSlice('\n')
		switch {
		case err != nil:
			return cutOff(err)
		case len(bytes.TrimRight(line, "\r\n")) == 0:
			return io.EOF
		}
		size += len(line)
	}
	return errTrailerTooLong
}

// cutOff is the error of a read within a body: its end is none of the body's.
func cutOff(err error) error {
	if err == io.EOF { //nolint:errorlint // a reader must not wrap it
		return io.ErrUnexpectedEOF
	}
	return err
}
