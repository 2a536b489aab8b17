package alerts

import (
	"time"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// What an entry of the audit log says of news: few enough alerts that it has room, each with so many ids.
const (
	alertsPerEntry = 50
	idsPerAlert    = 15
)

// delivered are the entries that say that a receiver has taken news.
func delivered(to, kind string, news []News) (events []evidence.Event) {
	now := time.Now()
	for len(news) > 0 {
		d := evidence.AlertData{Receiver: to, Kind: kind}
		for _, n := range news[:min(len(news), alertsPerEntry)] {
			d.Alerts = append(d.Alerts, evidence.AlertNews{
				Alert: n.Labels["alertname"], Group: n.Labels["group"], Member: n.Labels["member"], Table: n.Labels["table"],
				Status: n.Status(), Divergences: append([]string{}, n.About[:min(len(n.About), idsPerAlert)]...), Total: len(n.About),
			})
		}
		news = news[len(d.Alerts):]
		events = append(events, evidence.Event{Type: evidence.AlertDelivered, Time: now, Data: d})
	}
	return events
}
