package stats

import "math"

// A histogram counts observations in buckets whose width is 2⁻⁹ of the power of two below them. The middle of a bucket
// is within 2⁻¹⁰, that is 0.098 %, of everything in it.
//
// The bits of a float64 say which bucket it belongs to. The upper 12, sign and exponent, choose a page of 512 buckets,
// the next 9, the leading ones of the significand, the bucket. Pages are allocated when first used.
type histogram struct {
	pages [1 << pageBits]*[1 << bucketBits]uint64
}

const (
	pageBits   = 12 // sign and exponent
	bucketBits = 9
	shift      = 64 - pageBits - bucketBits // bits of a float64 below those that choose the bucket
	signBit    = 1 << 63
)

// bucketOf returns the page and the bucket of v. Both rise with v, also across zero.
func bucketOf(v float64) (page, bucket int) {
	if math.Abs(v) < 0x1p-1022 {
		v = 0 // subnormal numbers are too coarse for the promised error, and no measurement is that small
	}
	bits := math.Float64bits(v)
	if bits&signBit != 0 {
		bits = ^bits // larger magnitudes are smaller numbers
	} else {
		bits |= signBit // positive numbers come after negative ones
	}
	return int(bits >> (64 - pageBits)), int(bits>>shift) & (1<<bucketBits - 1)
}

// middleOf returns the value that stands for a bucket.
func middleOf(page, bucket int) float64 {
	low := (uint64(page)<<bucketBits | uint64(bucket)) << shift
	bits := low | 1<<(shift-1)
	if bits&signBit != 0 {
		bits &^= signBit
	} else {
		bits = ^bits
	}
	if v := math.Float64frombits(bits); math.Abs(v) >= 0x1p-1022 {
		return v
	}
	return 0
}

func (h *histogram) add(v float64, n int) {
	page, bucket := bucketOf(v)
	if h.pages[page] == nil {
		h.pages[page] = new([1 << bucketBits]uint64)
	}
	h.pages[page][bucket] += uint64(n)
}

func (h *histogram) merge(o *histogram) {
	for i, page := range o.pages {
		if page == nil {
			continue
		}
		if h.pages[i] == nil {
			h.pages[i] = new([1 << bucketBits]uint64)
		}
		for j, n := range page {
			h.pages[i][j] += n
		}
	}
}

// orderStatistic returns the middle of the bucket that holds the observation of rank k, from 0, and +Inf if there are
// not as many.
func (h *histogram) orderStatistic(k int) float64 {
	rest := uint64(k)
	for i, page := range h.pages {
		if page == nil {
			continue
		}
		for j, n := range page {
			if rest < n {
				return middleOf(i, j)
			}
			rest -= n
		}
	}
	return math.Inf(1)
}

// each visits the middles of the buckets by rising value, with how many observations are in each.
func (h *histogram) each(visit func(value float64, n int)) {
	for i, page := range h.pages {
		if page == nil {
			continue
		}
		for j, n := range page {
			if n > 0 {
				visit(middleOf(i, j), int(n))
			}
		}
	}
}
