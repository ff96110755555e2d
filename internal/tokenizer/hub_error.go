package tokenizer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
	"unicode"
)

// errSlow is the cause of a request that we gave up.
var errSlow = errors.New("no answer in time")

// hubError is a failure to have a file from the Hub, in words that tell the user what to do. They never hold the token,
// nor the whole URL of a host other than the Hub's own: its query is a signature.
type hubError struct {
	message string
	cause   error         // of a transport failure
	final   bool          // the Hub says that there is no such thing: a copy in the cache would be out of date
	passing bool          // worth another try
	wait    time.Duration // that the server asks for before another try, 0 if it does not
}

func (e *hubError) Error() string { return e.message }
func (e *hubError) Unwrap() error { return e.cause }

func isFinal(err error) bool {
	var failure *hubError
	return errors.As(err, &failure) && failure.final
}

// place names a URL in a message.
func (q *query) place(at *url.URL) string {
	if sameOrigin(at, q.endpoint) {
		return at.Redacted()
	}
	return at.Scheme + "://" + at.Host + "/…"
}

func (q *query) errTransport(at *url.URL, err error) error {
	var certificate *tls.CertificateVerificationError
	return &hubError{
		message: fmt.Sprintf("tokenizer %s: %s: %v; check the network and any proxy, or name a folder or file instead",
			q.repo, q.place(at), err),
		cause:   err,
		passing: !errors.As(err, &certificate),
	}
}

// errAnswer is an answer that no Hub gives.
func (q *query) errAnswer(at *url.URL, what string) error {
	return &hubError{message: fmt.Sprintf("tokenizer %s: %s: %s", q.repo, q.place(at), what)}
}

func (q *query) errTooLarge(at *url.URL) error {
	return q.errAnswer(at, fmt.Sprintf("%s has more than %d MiB: no tokenizer is that large", q.name, maxFileSize>>20))
}

func (q *query) errOffline() error {
	where := "there is no cache folder (set HF_HUB_CACHE or HF_HOME)"
	if q.dir != "" {
		where = fmt.Sprintf("revision %s is not in the cache folder %s", q.revision, filepath.Dir(q.dir))
	}
	return &hubError{message: fmt.Sprintf("tokenizer %s: offline by HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE, and %s; "+
		"fetch it once with `hf download %s %s` where there is a network, or name a folder or file instead",
		q.repo, where, q.repo, q.name)}
}

// errStatus explains an answer that is neither the file nor a redirect to it. X-Error-Code tells what the status alone
// does not: a private repository, a gated one and one that does not exist are all 401 to somebody without a token.
func (q *query) errStatus(at *url.URL, res *http.Response) error {
	e := &hubError{wait: askedWait(res)}
	code, message := res.Header.Get("X-Error-Code"), res.Header.Get("X-Error-Message")
	status := res.StatusCode
	var what string
	switch {
	case code == "RevisionNotFound":
		e.final = true
		what = fmt.Sprintf("%s has no revision %q: give a branch, a tag or a commit after the @", q.page(), q.revision)
	case code == "EntryNotFound":
		e.final = true
		what = fmt.Sprintf("%s has no %s, which is what inferprobe reads (not tokenizer.model, nor tiktoken files): name "+
			"another repository with the same tokenizer, or a file that transformers wrote by save_pretrained", q.page(), q.name)
	case code == "GatedRepo" && q.hasToken:
		what = fmt.Sprintf("%s is gated and the account of HF_TOKEN has no access to it: accept its licence on that page, "+
			"and see that the token may read gated repositories", q.page())
	case code == "GatedRepo":
		what = fmt.Sprintf("%s is gated: accept its licence on that page, then set HF_TOKEN to a token of that account",
			q.page())
	case message == "Access to this resource is disabled.":
		what = q.page() + " has been disabled by the Hub: name another repository"
	case status == http.StatusUnauthorized && message == "Invalid credentials in Authorization header":
		what = fmt.Sprintf("%s refuses the token: HF_TOKEN is wrong or has expired", q.endpoint.Redacted())
	case (code == "RepoNotFound" || status == http.StatusUnauthorized) && q.hasToken:
		what = fmt.Sprintf("%s does not exist, or HF_TOKEN may not read it: check the spelling and the token's permissions",
			q.page())
	case code == "RepoNotFound" || status == http.StatusUnauthorized:
		what = fmt.Sprintf("%s does not exist, or is private or gated: check the spelling, or set HF_TOKEN", q.page())
	case status == http.StatusForbidden:
		what = fmt.Sprintf("%s forbids it (%s): see that HF_TOKEN has the permission", q.place(at), orStatus(message, res))
	case status == http.StatusTooManyRequests:
		e.passing = true
		what = fmt.Sprintf("%s limits the rate of requests; set HF_TOKEN for a higher limit, or name a folder or file",
			q.place(at))
	default:
		e.passing = status == http.StatusRequestTimeout || status >= 500 && status != http.StatusNotImplemented
		what = fmt.Sprintf("%s answers %s", q.place(at), orStatus(message, res))
	}
	e.message = fmt.Sprintf("tokenizer %s: %s", q.repo, what)
	return e
}

// orStatus is what the server says, without what a terminal or a page would not show as text, and no more than a line.
func orStatus(message string, res *http.Response) string {
	text := res.Status
	if message != "" {
		text += ", " + message
	}
	const most = 200
	printable := func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}
	return strings.Map(printable, fmt.Sprintf("%.*s", most, text))
}
