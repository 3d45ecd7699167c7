package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"weir/config"
	"weir/connector/evidence"
)

func keygenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make the Ed25519 key that an examiner signs cases with",
		Long: "Makes an Ed25519 key and writes it to FILE, in PKCS #8, for its owner only, and the public half to FILE.pub.\n" +
			"Whoever checks what it signed needs FILE.pub, from a hand that they trust.",
	}
	file := cmd.Flags().String("out", "", "`file` to write the private key to; it and FILE.pub must not be there")
	path := cmd.Flags().StringP("config", "c", "", "the configuration `file` whose audit log is told. Without it: standard error alone")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *file == "" {
			return usageError{errors.New("--out is needed: the file for the private key")}
		}
		cfg := new(config.Default())
		if *path != "" {
			var err error
			if cfg, err = loadConfig(*path); err != nil {
				return err
			}
		}
		trail, err := openAudit(cfg.Log, *path, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		defer trail.close()
		change, err := trail.begin(makeKey, *file)
		if err != nil {
			return err
		}
		key, err := evidence.GenerateKey(*file)
		how := ""
		if err == nil {
			how = ", key " + evidence.KeyID(key)
		}
		if err := change.end(how, err); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "private key  %s (keep it secret)\npublic key   %s (give it to those who verify)\nkey id       %s\n",
			cleanLine(*file), cleanLine(*file+evidence.PublicSuffix), evidence.KeyID(key))
		return err
	}
	return cmd
}
