package history

import "bytes"

// layOut sets compact JSON out for people: an object or list that holds no other stands on one line, and so a
// distribution is a line and five hundred samples are three; everything else is indented.
func layOut(compact []byte) []byte {
	out := make([]byte, 0, 2*len(compact))
	depth, oneLine := 0, false
	newLine := func() {
		out = append(out, '\n')
		out = append(out, bytes.Repeat([]byte("  "), depth)...)
	}
	for i := 0; i < len(compact); i++ {
		switch c := compact[i]; c {
		case '{', '[':
			out = append(out, c)
			if oneLine = holdsNoOther(compact[i+1:]); !oneLine {
				depth++
				newLine()
			}
		case '}', ']':
			if !oneLine {
				depth--
				newLine()
			}
			oneLine = false
			out = append(out, c)
		case ',':
			if out = append(out, c); oneLine {
				out = append(out, ' ')
			} else {
				newLine()
			}
		case ':':
			out = append(out, ": "...)
		case '"':
			n := stringLen(compact[i:])
			out = append(out, compact[i:i+n]...)
			i += n - 1
		default:
			out = append(out, c)
		}
	}
	return append(out, '\n')
}

// holdsNoOther reports whether the object or list whose inside begins here ends before another begins.
func holdsNoOther(inside []byte) bool {
	for i := 0; i < len(inside); i++ {
		switch inside[i] {
		case '{', '[':
			return false
		case '}', ']':
			return true
		case '"':
			i += stringLen(inside[i:]) - 1
		}
	}
	return true
}

// stringLen returns the length of the JSON string that s begins with, quotes included.
func stringLen(s []byte) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}
