package config_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/inferprobe/inferprobe/internal/config"
)

// TestDoubtfulFiles holds the exact text of every warning: testdata/doubtful/NAME.yaml gives NAME.txt.
func TestDoubtfulFiles(t *testing.T) {
	cleanEnv(t)
	files, err := filepath.Glob("testdata/doubtful/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files: ", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			cfg, err := config.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(cfg.Warnings) > 0 {
				got = cfg.Warnings.Error() + "\n"
			}
			checkGolden(t, strings.TrimSuffix(path, ".yaml")+".txt", got)
		})
	}
}

// TestNothingDoubtful: neither the documented file nor an endpoint from the environment gives a warning.
func TestNothingDoubtful(t *testing.T) {
	cleanEnv(t)
	cfg, err := config.Load("../../config/inferprobe.yaml")
	if err != nil || len(cfg.Warnings) > 0 {
		t.Errorf("%v %v", err, cfg)
	}
	t.Setenv("OPENAI_API_BASE_URL", "http://host/v1")
	if cfg, err = config.FromEnv(); err != nil || len(cfg.Warnings) > 0 {
		t.Errorf("%v %v", err, cfg)
	}
}
