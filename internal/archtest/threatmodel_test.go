package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatModelNamesItsProofs: each row of a table in the threat model names tests, and these exist.
func TestThreatModelNamesItsProofs(t *testing.T) {
	text, err := os.ReadFile("../../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows int
	for _, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| ---") || cells[len(cells)-1] == "Proof" {
			continue
		}
		rows++
		for _, proofs := range strings.Split(cells[len(cells)-1], "; ") {
			checkProofs(t, proofs)
		}
	}
	if rows < 20 {
		t.Errorf("there are only %d rows", rows)
	}
}

// checkProofs takes "`folder` TestA, TestB, c.txtar".
func checkProofs(t *testing.T, text string) {
	t.Helper()
	match := regexp.MustCompile("^`([a-z0-9/]+)` ((?:[A-Za-z_.]+(?:, )?)+)$").FindStringSubmatch(text)
	if match == nil {
		t.Errorf("%q names no package and tests", text)
		return
	}
	folder := filepath.Join("../..", filepath.FromSlash(match[1]))
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Errorf("%s has no tests, %v", match[1], err)
		return
	}
	var code strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(content)
	}
	for _, name := range strings.Split(match[2], ", ") {
		if strings.HasSuffix(name, ".txtar") {
			if _, err := os.Stat(filepath.Join(folder, "testdata/script", name)); err != nil {
				t.Error(err)
			}
		} else if !strings.Contains(code.String(), "\nfunc "+name+"(") {
			t.Errorf("%s has no %s", match[1], name)
		}
	}
}
