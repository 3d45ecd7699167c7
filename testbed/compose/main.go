// Command compose loads a compose file with Docker Compose's own library, which
// checks the schema and that every service, volume and network that is named
// exists. It needs no engine. It is a module of its own, so that weir does not
// depend on that library.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if err := load(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "compose:", err)
		os.Exit(1)
	}
}

func load(ctx context.Context, files []string) error {
	options, err := cli.NewProjectOptions(files, cli.WithOsEnv)
	if err != nil {
		return err
	}
	project, err := options.LoadProject(ctx)
	if err != nil {
		return err
	}
	// The library leaves to the engine whether a file that is mounted is there:
	// Docker would make a folder in its place.
	var missing []error
	for _, s := range project.Services {
		for _, v := range s.Volumes {
			if v.Type == "bind" {
				_, err := os.Stat(v.Source)
				missing = append(missing, err)
			}
		}
	}
	if err := errors.Join(missing...); err != nil {
		return err
	}
	fmt.Println("services:", strings.Join(project.ServiceNames(), " "))
	return nil
}
