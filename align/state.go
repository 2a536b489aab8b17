package align

import (
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// Space is where one member's rows of one table are kept. Each scan fills a Space of its own, so that half a scan is
// never mistaken for a whole one.
type Space struct {
	Member     cdc.MemberID
	Table      cdc.TableID
	Generation uint32
}

// State is what the ledger keeps between restarts. All writes since the last commit are read back by the same State and
// become durable together or not at all; the ledger never commits. An error of a State is final: the ledger's memory and
// what is kept may differ after it, so the ledger must be loaded anew.
type State interface {
	ImageState
	LinkState
	FindingState

	SetMember(m cdc.MemberID, r *MemberRecord) error
	SetTable(r *TableRecord) error
	// DropMember forgets all that is kept of a member, but findings and its part of table records.
	DropMember(m cdc.MemberID) error
	// DropTable forgets all that is kept of a table, on all members that the group has ever had, but findings.
	DropTable(t cdc.TableID) error
}

// ImageState is what is kept of single members: rows, the digests of their ranges, changes that wait for a scan, and which
// keys were verified when.
type ImageState interface {
	// Row returns the stored form of a row, or nil. The slice is valid until the next call.
	Row(at Space, key digest.Key) ([]byte, error)
	SetRow(at Space, key digest.Key, row []byte) error
	DeleteRow(at Space, key digest.Key) error
	// Rows yields the rows from from up to, not including, to in the order of their keys until yield returns false.
	// A nil to means the end. Slices are valid during the call only; yield must not write rows.
	Rows(at Space, from, to digest.Key, yield func(digest.Key, []byte) (bool, error)) error
	// DropRows forgets the rows of a space, and keeps the rest.
	DropRows(at Space) error
	// DropSpace forgets the rows, range digests and pending changes of a space.
	DropSpace(at Space) error

	SetSum(at Space, start digest.Key, s merkle.Sum) error
	DeleteSum(at Space, start digest.Key) error
	SetBoundary(t cdc.TableID, start digest.Key) error
	DeleteBoundary(t cdc.TableID, start digest.Key) error
	DropBoundaries(t cdc.TableID) error

	// AppendPending adds a change to the end of a space's list; TakePending yields and removes up to limit from its
	// start and reports whether any are left.
	AppendPending(at Space, p *Pending) error
	TakePending(at Space, limit int, yield func(*Pending) error) (more bool, err error)

	// SetVerified keeps a span of verified keys, by its After.
	SetVerified(m cdc.MemberID, t cdc.TableID, v Verified) error
	DeleteVerified(m cdc.MemberID, t cdc.TableID, after digest.Key) error
	DropVerified(m cdc.MemberID, t cdc.TableID) error
}

// LinkState is what is kept between the reference and its members: what is in flight, and what is known to differ.
type LinkState interface {
	// SetInFlight keeps a transaction and notes in f.Parts how, for DeleteInFlight.
	SetInFlight(f *InFlight) error
	DeleteInFlight(f *InFlight) error

	// DivergentKey returns what is kept of a key that differs, or nil.
	DivergentKey(m cdc.MemberID, t cdc.TableID, key digest.Key) (*DivergentKey, error)
	SetDivergentKey(m cdc.MemberID, t cdc.TableID, key digest.Key, d *DivergentKey) error
	DeleteDivergentKey(m cdc.MemberID, t cdc.TableID, key digest.Key) error
	DivergentKeys(m cdc.MemberID, t cdc.TableID, from, to digest.Key, yield func(digest.Key, *DivergentKey) (bool, error)) error
}

// FindingState is what is kept of findings.
type FindingState interface {
	SetFinding(f *finding.Finding) error
	DeleteFinding(number uint64) error
	// Notify says that with the next commit there is something new to tell receivers.
	Notify()
}

// Saved is what a ledger is loaded from.
type Saved struct {
	Reference  cdc.MemberID // that the others were held against; 0: there was none yet
	Members    map[cdc.MemberID]*MemberRecord
	Tables     []*TableRecord
	Boundaries func(cdc.TableID) ([]digest.Key, error)
	Sum        func(at Space, start digest.Key) (merkle.Sum, error)
	Verified   func(cdc.MemberID, cdc.TableID) ([]Verified, error) // ascending
	InFlight   []*InFlight                                         // ascending
	Findings   []*finding.Finding                                  // not resolved
}

// MemberRecord is how far one member's stream was applied, and what its lanes had replayed there.
type MemberRecord struct {
	Server   cdc.Server   `json:"server"`
	Position cdc.Position `json:"stream"`
	// Ahead are transactions with a GTID that the member has shown and that are not accounted for: the reference had
	// not shown them at that time, or has others before them that touch the same rows and that the member has yet to
	// replay.
	Ahead cdc.TxSet              `json:"ahead,omitzero"`
	Lanes map[string]*LaneRecord `json:"lanes,omitempty"`
	// Started holds, once MariaDB was started while its log was read, what that showed first of each domain since, with all
	// before it: what was passed over of these it may have replayed without logging it. nil: it was not started.
	Started *cdc.TxSet `json:"started,omitempty"`
	// ScanOnly says that what is kept of the member is what is kept of one that shows no stream.
	ScanOnly bool `json:"scan_only,omitempty"`
}

// LaneRecord is what one lane has replayed, or passed over, of the transactions that the reference has shown.
type LaneRecord struct {
	Applied cdc.TxSet `json:"applied"`
	// Said is what the member itself said last that it has replayed, of whatever log. It never goes back on one history.
	Said cdc.TxSet `json:"said,omitzero"`
	// Lost is how far the reference was when the lane had fallen so far behind that its transactions were dropped from the
	// journal; empty if they are all in it. Until the lane has got that far it is lost, and nothing is journaled for it.
	Lost cdc.TxSet `json:"lost,omitzero"`
	// Unbrought is what the reference, a replica itself, has that does not come to the member.
	Unbrought cdc.TxSet `json:"unbrought,omitzero"`
}

// TableRecord is what is known of one table in the whole group.
type TableRecord struct {
	Epoch cdc.Epoch `json:"epoch"`
	// Unjournaled holds transactions of the reference that touched the table, or may have, without its row changes
	// being journaled: a member can be compared only after it has replayed them.
	Unjournaled cdc.TxSet `json:"unjournaled"`
	// Sparse says that the rows are not kept, but for those of ranges in which some differ.
	Sparse bool `json:"sparse,omitempty"`
	// Forgotten is the end, in the reference's log, of the last transaction whose changes of this table were taken out
	// of the journal, because the reference's rows are read anew.
	Forgotten cdc.LSN                          `json:"forgotten"`
	Versions  map[cdc.MemberID]string          `json:"versions"` // of each member's definition
	Members   map[cdc.MemberID]*CoverageRecord `json:"members"`
}

// CoverageRecord says which rows of a table are kept for one member.
type CoverageRecord struct {
	Phase      Phase     `json:"phase"`
	Reason     string    `json:"reason,omitempty"` // why it is not live
	Generation uint32    `json:"generation"`
	Lane       string    `json:"lane,omitempty"`
	Compared   bool      `json:"compared"`
	ComparedAt time.Time `json:"compared_at,omitzero"`
	// Scan tells of the scan whose rows are being read or brought up to date; nil in other phases.
	Scan *ScanRecord `json:"scan,omitempty"`
	// Suspects are keys of rows that were read and are not what the stream says, ascending; not settled yet.
	Suspects []digest.Key `json:"suspects,omitempty"`
	// Restarted says that MariaDB was started since the rows were read: of what it replayed before, its log may lack some.
	Restarted bool `json:"restarted,omitempty"`
	// Silent counts the rows that were found to have been changed without a trace in the log.
	Silent int64 `json:"silent,omitempty"`
}

// ScanRecord is how far a scan of all rows of a table is.
type ScanRecord struct {
	Began time.Time `json:"began"`
	// Cut and Settled are where the views of the member's log begin and end that rows were read in; 0 until known.
	Cut     cdc.LSN `json:"cut,omitempty"`
	Settled cdc.LSN `json:"settled,omitempty"`
	// Through is the last key that is stored, in the server's order, of a scan that reads parts.
	Through digest.Key `json:"through,omitempty"`
	Rows    int64      `json:"rows,omitempty"`
	Whole   bool       `json:"whole,omitempty"` // all rows must be read in one view
}

// InFlight is one transaction of the reference that some lane has not replayed yet.
type InFlight struct {
	ID         cdc.TxID
	End        cdc.LSN // in the reference's log
	CommitTime time.Time
	Seen       time.Time
	Changes    []RowChange
	Parts      int // pieces that the state keeps it in; 0: it is not kept yet
}

// RowChange is what a transaction did to one row in total.
type RowChange struct {
	Table         cdc.TableID
	Key           digest.Key
	Before, After digest.Digest
}

// Pending is a change that waits for the scan of its table to end.
type Pending struct {
	Commit cdc.LSN
	Change cdc.Change
}

// DivergentKey is a key whose row on a member is not what the reference says it must be.
type DivergentKey struct {
	Finding  uint64        // number of the finding that it belongs to
	Kind     finding.Kind  //
	Expected digest.Digest // zero: no row
	Actual   digest.Digest // zero: no row
	Seen     time.Time     // since when it is known to differ, in whatever way, and people were not told; zero: an earlier version did not keep that
}
