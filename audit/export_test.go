package audit

// Abandon ends the log as a crash does.
func (l *Log) Abandon() { l.cancel() }
