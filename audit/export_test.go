package audit

// Expected is what a log is expected to take.
var Expected = expected

// Abandon ends the log as a crash does.
func (l *Log) Abandon() { l.cancel() }
