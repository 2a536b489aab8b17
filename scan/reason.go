package scan

// Reason is why a scan does not go on at this moment.
type Reason uint8

// The reasons. Of the zero Reason a scan goes on.
const (
	Going            Reason = iota
	Rate                    // so that rows come as slowly as they should
	OutsideWindow           // it is not the time
	ReplicaLag              // a replica of the group is too far behind
	ServerLoad              // the server works on many more statements than it usually does
	LongTransactions        // the server keeps many old versions of rows
	StoreBehind             // our own store is behind the streams
	reasons                 // their number
)

// Reasons lists all for which a scan waits, in order.
func Reasons() []Reason {
	list := make([]Reason, 0, reasons-1)
	for r := Rate; r < reasons; r++ {
		list = append(list, r)
	}
	return list
}

// String is the reason's name in metrics and in JSON.
func (r Reason) String() string {
	return []string{"going", "rate", "window", "replica_lag", "server_load", "long_transactions", "store_behind", "unknown"}[min(r, reasons)]
}

// MarshalText implements [encoding.TextMarshaler].
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
