package prompt

import (
	"math"
	"math/rand/v2"

	"github.com/inferprobe/inferprobe/internal/probe"
)

// Lengths draws numbers of tokens. It is not safe for concurrent use.
type Lengths struct {
	mean, deviation float64
	min, max        int
	random          *rand.Rand
}

// NewLengths returns the sequence of lengths that GuideLLM v0.1 would draw from: without a variance uniform from Min,
// or Mean, to Max, or Mean; with one normal around Mean, cut at Min and at Max, or Mean + 5·Variance where Max is not
// above Mean. The same seed gives the same sequence. A length is at least 1.
func NewLengths(l probe.Length, seed uint64) *Lengths {
	lengths := &Lengths{
		mean:      float64(l.Mean),
		deviation: math.Sqrt(float64(max(l.Variance, 0))),
		min:       l.Least(),
		max:       l.Max,
		random:    rand.New(rand.NewPCG(seed, scramble(seed))),
	}
	switch {
	case l.Variance <= 0 && l.Max <= 0:
		lengths.max = l.Mean
	case l.Variance > 0 && l.Max <= l.Mean:
		lengths.max = l.Mean + 5*l.Variance
	}
	lengths.max = max(lengths.max, lengths.min)
	return lengths
}

// Next returns the next length.
func (l *Lengths) Next() int {
	if l.deviation == 0 {
		return l.min + l.random.IntN(l.max-l.min+1)
	}
	n := l.random.NormFloat64()*l.deviation + l.mean
	return int(min(max(n, float64(l.min)), float64(l.max)))
}
