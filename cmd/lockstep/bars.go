package main

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/status"
)

// scanBars draws one bar for each table that is being read.
type scanBars struct {
	progress *mpb.Progress
	done     sync.WaitGroup
	bars     map[[2]string]*mpb.Bar // owned by the goroutine of show
}

// showScans draws progress bars of what scans returns on w until ctx ends. Wait waits for the last of them.
func showScans(ctx context.Context, w io.Writer, scans func() []status.ScanProgress) *scanBars {
	b := newScanBars(mpb.WithOutput(w))
	b.done.Go(func() { b.show(ctx, scans) })
	return b
}

// scansOf lists the tables of groups that are being read.
func scansOf(groups []*daemon.Group) (scans []status.ScanProgress) {
	for _, g := range groups {
		scans = append(scans, g.Scans()...)
	}
	return scans
}

func newScanBars(options ...mpb.ContainerOption) *scanBars {
	return &scanBars{progress: mpb.New(append(options, mpb.WithWidth(40))...), bars: make(map[[2]string]*mpb.Bar)}
}

// Wait returns when nothing is drawn any more.
func (b *scanBars) Wait() { b.done.Wait() }

func (b *scanBars) show(ctx context.Context, scans func() []status.ScanProgress) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		b.draw(scans())
		select {
		case <-ctx.Done():
			b.draw(nil)
			b.progress.Shutdown()
			return
		case <-tick.C:
		}
	}
}

func (b *scanBars) draw(scans []status.ScanProgress) {
	running := make(map[[2]string]bool)
	for _, s := range scans {
		key := [2]string{s.Member, s.Table}
		running[key] = true
		bar := b.bars[key]
		if bar == nil {
			// Made without a total, for one that is given here could not be corrected.
			bar = b.progress.AddBar(0,
				mpb.PrependDecorators(decor.Name(s.Member+" "+s.Table+" ")),
				mpb.AppendDecorators(decor.CurrentNoUnit("%d rows "), decor.Percentage(), decor.Name(" "), decor.AverageETA(decor.ET_STYLE_GO)))
			b.bars[key] = bar
		}
		bar.SetTotal(max(s.OfRows, s.Rows+1), false) // the server's estimate may be too low
		bar.SetCurrent(s.Rows)
	}
	for key, bar := range b.bars {
		if !running[key] {
			bar.Abort(true)
			delete(b.bars, key)
		}
	}
}
