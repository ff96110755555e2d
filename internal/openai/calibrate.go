package openai

import "context"

// Calibration is what a few short requests taught.
type Calibration struct {
	Encoder  *Encoder // whose bodies the server accepts
	Dropped  []string // extras that it rejected
	Overhead int      // prompt tokens as the server counts them, less ours: the chat template and special tokens
	Counted  bool     // the server reported prompt tokens, so Overhead is known
}

// Calibrate finds out which of enc's extras the server takes, and what its chat template adds to a prompt.
// appendPrompt is as for Encoder.Append, promptTokens its length by the local tokenizer.
func (c *Client) Calibrate(
	ctx context.Context, enc *Encoder, appendPrompt func(dst []byte) []byte, promptTokens int,
) (Calibration, error) {
	return Calibration{Encoder: enc}, nil
}
