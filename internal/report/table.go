package report

import (
	"slices"
	"strings"
)

// A table is drawn as rich draws its default one: heavy lines around the header, light ones around the body, header
// cells at the bottom of their row, everything aligned left. Neither go-pretty nor tablewriter can mix the two kinds of
// lines, nor shrink the widest column first.
type table struct {
	title  string
	header []string
	rows   [][]string // as many cells each as header has; the first is the row's label
}

// cellPadding is the room on both sides of a cell's text.
const cellPadding = 2

// draw returns the table's lines, none wider than width. Columns that do not fit beside each other, even with their
// cells wrapped, follow below in a further table with the same labels. With wholeLabels, labels stay on one line
// wherever there is room for that; otherwise wherever it does not make the table longer.
func (t *table) draw(width int, wholeLabels bool) []string {
	var lines []string
	for i, columns := range t.split(width, wholeLabels) {
		title := t.title
		if i > 0 {
			title += " (continued)"
			lines = append(lines, "")
		}
		part := t.only(columns)
		body := part.drawPart(part.columnWidths(width, true))
		if !wholeLabels {
			if wrapped := part.drawPart(part.columnWidths(width, false)); len(wrapped) < len(body) {
				body = wrapped
			}
		}
		lines = append(append(lines, wrap(title, width)...), body...)
	}
	return lines
}

// split groups the columns into tables that fit. The label leads each of them.
func (t *table) split(width int, wholeLabels bool) [][]int {
	groups := t.group(t.natural(0), width)
	if wholeLabels {
		return groups
	}
	if fewer := t.group(t.minimum(0), width); len(fewer) < len(groups) {
		return fewer
	}
	return groups
}

// group puts as many columns beside each other as fit next to a label of the given width.
func (t *table) group(label, width int) [][]int {
	groups := [][]int{{0}}
	for column := 1; column < len(t.header); column++ {
		last := len(groups) - 1
		if with := append(slices.Clone(groups[last]), column); len(with) == 2 || t.room(with, label) <= width {
			groups[last] = with
		} else {
			groups = append(groups, []int{0, column})
		}
	}
	return groups
}

// room returns how wide a table of these columns must at least be with labels of that width.
func (t *table) room(columns []int, label int) int {
	sum := 1 + label + cellPadding + 1
	for _, column := range columns[1:] {
		sum += t.minimum(column) + cellPadding + 1
	}
	return sum
}

// only returns the table of some of the columns.
func (t *table) only(columns []int) *table {
	pick := func(cells []string) []string {
		picked := make([]string, len(columns))
		for i, column := range columns {
			picked[i] = cells[column]
		}
		return picked
	}
	part := &table{header: pick(t.header)}
	for _, row := range t.rows {
		part.rows = append(part.rows, pick(row))
	}
	return part
}

// natural returns the width of a column whose cells need not wrap.
func (t *table) natural(column int) int { return t.widest(column, displayWidth) }

// minimum returns the width of a column below which its cells would break inside a word.
func (t *table) minimum(column int) int { return t.widest(column, narrowest) }

func (t *table) widest(column int, of func(string) int) int {
	widest := of(t.header[column])
	for _, row := range t.rows {
		widest = max(widest, of(row[column]))
	}
	return widest
}

// columnWidths returns the width of each column's text: as wide as it needs to be, then the widest columns shrunk until
// the table fits. First only headers wrap, then cells, then, with wholeLabels, labels, and at last words break.
func (t *table) columnWidths(width int, wholeLabels bool) []int {
	widths, rows, words := make([]int, len(t.header)), make([]int, len(t.header)), make([]int, len(t.header))
	excess := 1 - width
	for i, header := range t.header {
		widths[i], words[i] = t.natural(i), t.minimum(i)
		rows[i] = narrowest(header)
		for _, row := range t.rows {
			rows[i] = max(rows[i], displayWidth(row[i]))
		}
		excess += widths[i] + cellPadding + 1
	}
	excess = shrink(widths, rows, excess)
	if wholeLabels {
		excess = shrink(widths, append(rows[:1:1], words[1:]...), excess)
	}
	excess = shrink(widths, words, excess)
	shrink(widths, slices.Repeat([]int{1}, len(widths)), excess)
	return widths
}

// shrink takes the excess away from the widest columns first, from none below its floor, and returns what is left of
// the excess.
func shrink(widths, floors []int, excess int) int {
	for excess > 0 {
		widest := -1
		for i := range widths {
			if widths[i] > floors[i] && (widest < 0 || widths[i] >= widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
		excess--
	}
	return max(0, excess)
}

func (t *table) drawPart(widths []int) []string {
	lines := []string{rule(widths, "┏", "━", "┳", "┓")}
	lines = append(lines, cells(t.header, widths, "┃", true)...)
	lines = append(lines, rule(widths, "┡", "━", "╇", "┩"))
	for _, row := range t.rows {
		lines = append(lines, cells(row, widths, "│", false)...)
	}
	return append(lines, rule(widths, "└", "─", "┴", "┘"))
}

func rule(widths []int, left, line, between, right string) string {
	parts := make([]string, len(widths))
	for i, width := range widths {
		parts[i] = strings.Repeat(line, width+cellPadding)
	}
	return left + strings.Join(parts, between) + right
}

// cells draws one row, wrapped, its cells at the bottom or the top of it.
func cells(texts []string, widths []int, border string, bottom bool) []string {
	wrapped := make([][]string, len(texts))
	var height int
	for i, text := range texts {
		wrapped[i] = wrap(text, widths[i])
		height = max(height, len(wrapped[i]))
	}
	lines := make([]string, height)
	for y := range lines {
		var b strings.Builder
		for i, column := range wrapped {
			index := y
			if bottom {
				index -= height - len(column)
			}
			text := ""
			if index >= 0 && index < len(column) {
				text = column[index]
			}
			b.WriteString(border + " " + pad(text, widths[i]) + " ")
		}
		lines[y] = b.String() + border
	}
	return lines
}

// panel draws a rounded frame of the given width around lines that leave 4 columns for it. A title that does not fit
// into the frame becomes the first lines inside.
func panel(title string, body []string, width int) []string {
	top := "╭─ " + title + " "
	if displayWidth(title)+6 > width {
		body = slices.Concat(wrap(title, width-4), body)
		top = "╭"
	}
	lines := make([]string, 0, len(body)+2)
	lines = append(lines, top+strings.Repeat("─", width-1-displayWidth(top))+"╮")
	for _, line := range body {
		lines = append(lines, "│ "+pad(line, width-4)+" │")
	}
	return append(lines, "╰"+strings.Repeat("─", width-2)+"╯")
}
