package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"weir/connector/evidence"
)

func keygenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make the Ed25519 key that an examiner signs cases with",
		Long: "Makes an Ed25519 key and writes it to FILE, in PKCS #8, for its owner only, and the public half to FILE.pub.\n" +
			"Whoever checks what it signed needs FILE.pub, from a hand that they trust.",
	}
	path := cmd.Flags().String("out", "", "`file` to write the private key to; it and FILE.pub must not be there")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *path == "" {
			return usageError{errors.New("--out is needed: the file for the private key")}
		}
		key, err := evidence.GenerateKey(*path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "private key  %s (keep it secret)\npublic key   %s (give it to those who verify)\nkey id       %s\n",
			cleanLine(*path), cleanLine(*path+evidence.PublicSuffix), evidence.KeyID(key))
		return err
	}
	return cmd
}
