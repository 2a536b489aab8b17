package alerts

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Slack posts to an incoming webhook of Slack's (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
type Slack struct {
	URL     func() (string, error) // which is a secret; read anew for each message
	Timeout time.Duration          // of one request; 0: 10 s
}

// Kind implements [Channel].
func (s *Slack) Kind() string { return "slack" }

// Past implements [Channel].
func (s *Slack) Past() bool { return true }

// Most implements [Channel]. Slack takes 50 blocks and about one message a second.
func (s *Slack) Most() int { return 20 }

type slackMessage struct {
	Text   string       `json:"text"` // for notifications
	Blocks []slackBlock `json:"blocks"`
}

type slackBlock struct {
	Type string    `json:"type"`
	Text slackText `json:"text"`
}

type slackText struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// maxSlackText is how many characters a section of a message may have.
const maxSlackText = 3000

// Tell implements [Channel].
func (s *Slack) Tell(ctx context.Context, news []News) error {
	url, err := s.URL()
	if err != nil {
		return err
	}
	m := slackMessage{Text: slackEscaped(news[0].headline())}
	if more := len(news) - 1; more > 0 {
		m.Text += fmt.Sprintf(" and %d more", more)
	}
	for _, n := range news {
		m.Blocks = append(m.Blocks, slackBlock{"section", slackText{"mrkdwn", n.slack()}})
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return poster{"alerts.slack[].url_file", s.Timeout}.post(ctx, url, body, nil)
}

// slack words news for a section.
func (n News) slack() string {
	sign := ":red_circle:"
	switch {
	case !n.Firing():
		sign = ":large_green_circle:"
	case n.Labels["severity"] != "critical":
		sign = ":large_yellow_circle:"
	}
	title := slackEscaped(n.headline())
	if n.URL != "" {
		title = "<" + slackEscaped(n.URL) + "|" + strings.ReplaceAll(title, "|", "¦") + ">"
	}
	text := sign + " *" + title + "*"
	if !n.Firing() {
		return text
	}
	text += "\n" + slackEscaped(cut(n.Annotations["description"], 600))
	if tx := n.Annotations["transactions"]; tx != "" {
		text += "\nIntroduced by `" + slackEscaped(strings.ReplaceAll(cut(tx, 300), "`", "'")) + "`"
	}
	if page := n.Annotations["runbook_url"]; page != "" {
		text += "\n<" + slackEscaped(page) + "|What to do>"
	}
	if ranges := n.Annotations["key_ranges"]; ranges != "" {
		text += "\n```" + slackEscaped(strings.ReplaceAll(cut(ranges, 800), "`", "'")) + "```"
	}
	return cut(text, maxSlackText)
}

// slackEscaped keeps names and rows from being taken for mentions and links.
func slackEscaped(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
