package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"holdfast/config"
)

func (p program) configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "look at the settings",
		Subcommands: []*cli.Command{{
			Name:  "show",
			Usage: "print every setting with its value and where that comes from",
			Flags: []cli.Flag{dirFlag(), setFlag(), &cli.StringFlag{Name: "enc", Value: "text", Usage: "text or json"}},
			Action: func(c *cli.Context) error {
				if err := noArguments(c); err != nil {
					return err
				}
				settings, err := p.settings(c)
				if err != nil {
					return err
				}
				remarks, err := p.checkEnvironment()
				if err != nil {
					remarks = append(remarks, strings.Split(err.Error(), "\n")...)
				}
				for _, text := range append(remarks, settings.Warnings()...) {
					fmt.Fprintln(p.err, "warning:", text)
				}
				switch c.String("enc") {
				case "json":
					encoder := json.NewEncoder(p.out)
					encoder.SetIndent("", "    ")
					return encoder.Encode(settings.Lines())
				case "text":
					return p.printSettings(settings)
				}
				return fmt.Errorf("--enc %q: it is text or json", c.String("enc"))
			},
		}},
	}
}

func (p program) printSettings(settings config.Effective) error {
	table := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "SETTING\tVALUE\tSOURCE\tVARIABLE")
	for _, line := range settings.Lines() {
		fmt.Fprintf(table, "%s\t%v\t%s\t%s\n", line.Key, line.Value, line.Source, config.Variable(line.Key))
	}
	return table.Flush()
}
