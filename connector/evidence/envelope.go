package evidence

import (
	"crypto/ed25519"
	"errors"
	"fmt"
)

// ManifestType is the payloadType of a manifest's envelope.
const ManifestType = "application/vnd.weir.manifest+json"

// Envelope is a signed text: DSSE 1.0
// (https://github.com/secure-systems-lab/dsse/blob/master/envelope.md).
type Envelope struct {
	PayloadType string          `json:"payloadType"`
	Payload     []byte          `json:"payload"` // base64 with padding
	Signatures  List[Signature] `json:"signatures"`
}

// Signature is one signature of an envelope.
type Signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// ErrSignature is under errors that say that a signature is wrong, or there is none by the key that was asked
// for.
var ErrSignature = errors.New("the signature does not hold")

// preAuth is what is signed (DSSE's PAE): no two pairs have one text.
func preAuth(kind string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload)
}

// Seal signs a text.
func Seal(key ed25519.PrivateKey, kind string, payload []byte) Envelope {
	public := key.Public().(ed25519.PublicKey)
	return Envelope{kind, payload, []Signature{{KeyID(public), ed25519.Sign(key, preAuth(kind, payload))}}}
}

// Verify checks that key signed the envelope as a text of that kind, once, and that
// its signature is not wrong. Those of others are not looked at: their keys are not
// known.
func (e *Envelope) Verify(key ed25519.PublicKey, kind string) error {
	if e.PayloadType != kind {
		return fmt.Errorf("signed as %q and not as %q", e.PayloadType, kind)
	}
	id, signed := KeyID(key), false
	for _, s := range e.Signatures {
		if s.KeyID != id {
			continue
		}
		if signed {
			return fmt.Errorf("%w: that of the key %s is there twice", ErrSignature, id)
		}
		if !ed25519.Verify(key, preAuth(kind, e.Payload), s.Sig) {
			return fmt.Errorf("%w: that of the key %s", ErrSignature, id)
		}
		signed = true
	}
	if !signed {
		return fmt.Errorf("%w: there is none of the key %s", ErrSignature, id)
	}
	return nil
}

// maxSignatures bounds the signatures of an envelope.
const maxSignatures = 100

// DecodeEnvelope reads an envelope as weir writes it.
func DecodeEnvelope(text []byte) (*Envelope, error) {
	e := new(Envelope)
	if err := DecodeJSON(text, e); err != nil {
		return nil, fmt.Errorf("not an envelope: %w", err)
	}
	if len(e.Signatures) == 0 {
		return nil, errors.New("not an envelope: it has no signature")
	}
	if len(e.Signatures) > maxSignatures {
		return nil, fmt.Errorf("not an envelope: it has %d signatures, and more than %d are not looked at", len(e.Signatures), maxSignatures)
	}
	return e, nil
}
