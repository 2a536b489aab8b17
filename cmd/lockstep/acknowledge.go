package main

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/user"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/finding"
)

func newAcknowledgeCommand() *cobra.Command {
	var api *apiFlags
	var by, ticket, note string
	cmd := &cobra.Command{
		Use:   "acknowledge ID",
		Short: "Acknowledge a divergence",
		Long: `Acknowledge a divergence: say who has taken it on, by which ticket. It is shown with the divergence, and recorded in the audit
log if there is one. The ID may be cut, as long as no other one begins so. A later acknowledgement takes the place of an earlier one; the log has both. It resolves nothing: a
divergence ends when the rows are the same again.

With passwords for the API, who it was is the user that asks. Otherwise it is who --by names: the user of this machine if it is
left out.`,
		Example: `  lockstep acknowledge 01M854J5KHTCD913H6DE66S3FV --ticket OPS-1234 --note "restored from eu-1"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if api.user == "" {
				by = cmp.Or(by, thisUser())
			}
			var d finding.Divergence
			body := map[string]string{"by": by, "ticket": ticket, "note": note}
			if err := api.send(cmd.Context(), http.MethodPost, "api/v1/divergences/"+url.PathEscape(args[0])+"/acknowledge", body, &d); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "Divergence %s of %s on %s is acknowledged by %s.\n", d.ID, d.Table, d.Member, d.Acknowledged.By)
			return err
		},
	}
	api = addAPIFlags(cmd)
	cmd.Flags().StringVar(&by, "by", "", "`WHO` has taken it on")
	cmd.Flags().StringVar(&ticket, "ticket", "", "`NAME` or address of the ticket")
	cmd.Flags().StringVar(&note, "note", "", "what there is to `SAY`")
	return cmd
}

// thisUser is the user of this machine: by name, or, as in cron and in containers where none is told, by number.
func thisUser() string {
	name := cmp.Or(os.Getenv("USER"), os.Getenv("LOGNAME"))
	if u, err := user.Current(); name == "" && err == nil {
		name = cmp.Or(u.Username, "uid "+u.Uid)
	}
	return cmp.Or(name, fmt.Sprintf("uid %d", os.Getuid()))
}
