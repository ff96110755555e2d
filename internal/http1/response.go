package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
)

// errTrailerTooLong is the error of trailer fields that do not end.
var errTrailerTooLong = errors.New("the trailer of the response is longer than 64 KiB")

// ReadResponse is http.ReadResponse with a body that returns what has come without waiting for the blank line behind
// the last chunk. Servers send that line apart (llama.cpp does), and net/http returns the last bytes of the answer only
// with it, so that they seem to come as late.
func ReadResponse(in *bufio.Reader, request *http.Request) (*http.Response, error) {
	response, err := http.ReadResponse(in, request)
	if err == nil && len(response.TransferEncoding) > 0 && response.Body != http.NoBody {
		response.Body = &chunked{in: in, chunks: httputil.NewChunkedReader(in)}
	}
	return response, err
}

// chunked is a body in chunks, the only transfer encoding that net/http lets pass.
type chunked struct {
	in     *bufio.Reader
	chunks io.Reader
	last   bool  // the last chunk has been read
	end    error // what ended the trailer
}

func (c *chunked) Read(p []byte) (int, error) {
	if !c.last {
		n, err := c.chunks.Read(p)
		if c.last = err == io.EOF; !c.last {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
	if c.end == nil {
		c.end = c.trailer()
	}
	return 0, c.end
}

func (c *chunked) Close() error { return nil }

// trailer reads up to the blank line that ends the answer. What the fields before it say is of no use here.
func (c *chunked) trailer() error {
	for size := 0; size < maxHead; {
		line, err := c.in.ReadSlice('\n')
		switch {
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case len(bytes.TrimRight(line, "\r\n")) == 0:
			return io.EOF
		}
		size += len(line)
	}
	return errTrailerTooLong
}
