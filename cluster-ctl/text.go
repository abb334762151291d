package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
)

// The texts are those of the incumbent's command line, which people parse in
// scripts; what it does not show is only ever appended.

const textTime = "2006-01-02 15:04:05"

// textID writes who a peer is and where it listens.
func textID(w io.Writer, id api.ID) {
	if id.Error != "" {
		fmt.Fprintf(w, "%s | ERROR: %s", id.ID, sentence(id.Error))
		fmt.Fprintln(w, roleAndState(id))
		return
	}
	others := len(id.Reachable)
	if id.Reachable == nil { // a peer of an earlier version
		for _, p := range id.ClusterPeers {
			if p != id.ID {
				others++
			}
		}
	}
	fmt.Fprintf(w, "%s | %s | Sees %d other peers", id.ID, name(id.PeerName), others)
	fmt.Fprintln(w, roleAndState(id))
	fmt.Fprintln(w, "  > Addresses:")
	textAddresses(w, id.Addresses)
	if id.IPFS.Error != "" {
		fmt.Fprintf(w, "  > IPFS ERROR: %s\n", sentence(id.IPFS.Error))
		return
	}
	fmt.Fprintf(w, "  > IPFS: %s\n", id.IPFS.ID)
	textAddresses(w, id.IPFS.Addresses)
}

func roleAndState(id api.ID) string {
	text := ""
	if id.Role != "" {
		text += " | " + name(id.Role)
	}
	if id.Role == "leader" && id.Term > 0 {
		text += fmt.Sprintf(" of term %d", id.Term)
	}
	if id.State != "" {
		text += " | " + name(string(id.State))
	}
	if id.Lag != nil && (id.Role == "learner" || id.Role == "voter") {
		text += fmt.Sprintf(" | %d entries behind, heard %.1fs ago", id.Lag.Entries, id.Lag.SilentSeconds)
	}
	if id.HeardSeconds != nil {
		text += fmt.Sprintf(", last heard of %.1fs ago", *id.HeardSeconds)
	}
	if id.Wish != "" {
		text += " | wished to be a " + name(string(id.Wish))
	}
	if id.FreeBytes != nil {
		text += " | " + humanize.IBytes(*id.FreeBytes) + " free"
	}
	if len(id.Alerts) > 0 {
		text += " | ALERTS: " + strings.Join(id.Alerts, ", ")
	}
	return text
}

func textAddresses(w io.Writer, addrs []multiaddr.Multiaddr) {
	texts := make([]string, 0, len(addrs))
	for _, a := range addrs {
		texts = append(texts, name(a.String()))
	}
	slices.Sort(texts)
	for _, t := range texts {
		fmt.Fprintf(w, "    - %s\n", t)
	}
}

// textPin writes one line about an entry of the pinset.
func textPin(w io.Writer, pin api.Pin) {
	kind := strings.ToUpper(name(string(pin.Type)))
	depth := "Recursive"
	if pin.Mode == api.ModeDirect {
		kind += "-DIRECT"
		depth = "Direct"
	}
	factor, holders := "-1", "[everywhere]"
	if !pin.IsEverywhere() {
		ids := make([]string, 0, len(pin.Allocations))
		for _, id := range pin.Allocations {
			ids = append(ids, id.String())
		}
		slices.Sort(ids)
		factor = fmt.Sprintf("%d--%d", pin.ReplicationFactorMin, pin.ReplicationFactorMax)
		holders = "[" + strings.Join(ids, " ") + "]"
	}
	metadata := "no"
	if len(pin.Metadata) > 0 {
		metadata = "yes"
	}
	fmt.Fprintf(w, "%s | %s | %s | Repl. Factor: %s | Allocations: %s | %s | Metadata: %s | Exp: %s | Added: %s\n",
		pin.Cid, name(pin.Name), kind, factor, holders, depth, metadata,
		timeOr(pin.ExpireAt, "∞"), timeOr(pin.Timestamp, "unknown"))
}

// textChange writes one line about a change of the pinset.
func textChange(w io.Writer, c api.PinChange) {
	if c.Pin == nil {
		fmt.Fprintf(w, "%d | %s | REMOVED\n", c.Index, c.Cid)
		return
	}
	fmt.Fprintf(w, "%d | %s | PINNED | %s\n", c.Index, c.Cid, name(c.Pin.Name))
}

// textAlert writes one line about what is wrong.
func textAlert(w io.Writer, a api.Alert) {
	who := a.PeerName
	if who == "" {
		who = a.Peer.String()
	}
	fmt.Fprintf(w, "%s: %s. Triggered at: %s | %s", name(who), name(string(a.Name)), a.TriggeredAt.UTC().Format(time.RFC3339), sentence(a.Message))
	if a.Name == api.AlertBackup {
		last := "never"
		if a.LastGood != nil {
			last = a.LastGood.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, " | Last good: %s", last)
	}
	fmt.Fprintln(w)
}

func timeOr(t time.Time, none string) string {
	if t.IsZero() {
		return none
	}
	return t.UTC().Format(textTime)
}

// textStatus writes the status of one pin, a line for each peer.
func textStatus(w io.Writer, info api.GlobalPinInfo) {
	label := ""
	if info.Name != "" {
		label = " | " + name(info.Name)
	}
	fmt.Fprintf(w, "%s%s:\n", info.Cid, label)
	for _, id := range slices.Sorted(maps.Keys(info.PeerMap)) {
		p := info.PeerMap[id]
		peerName := p.PeerName
		if peerName == "" {
			peerName = id
		}
		fmt.Fprintf(w, "    > %-20s : %s\n", name(peerName), statusLine(p))
	}
}

func statusLine(p api.PinInfoShort) string {
	line := strings.ToUpper(p.Status.String())
	if p.Error != "" {
		line += ": " + sentence(p.Error)
	}
	line += fmt.Sprintf(" | %s | Attempts: %d | Priority: %t", p.Timestamp.UTC().Format(time.RFC3339), p.AttemptCount, p.PriorityPin)
	if p.Status != api.StatusPinned && p.Blocks > 0 {
		line += fmt.Sprintf(" | So far: %d blocks, %s", p.Blocks, humanize.IBytes(p.Bytes))
	}
	if p.NextAttempt != nil {
		line += " | Next try: " + p.NextAttempt.UTC().Format(time.RFC3339)
	}
	return line
}

// textGC writes what garbage collection removed, peer by peer.
func textGC(w io.Writer, gc api.GlobalRepoGC) {
	for _, id := range slices.Sorted(maps.Keys(gc.PeerMap)) {
		p := gc.PeerMap[id]
		who := p.PeerName
		if who == "" {
			who = id
		}
		if p.Error != "" {
			fmt.Fprintf(w, "%-15s | ERROR: %s\n", name(who), sentence(p.Error))
		} else {
			fmt.Fprintf(w, "%-15s\n", name(who))
		}
		if len(p.Keys) == 0 {
			continue
		}
		fmt.Fprintln(w, "  > CIDs:")
		for _, k := range p.Keys {
			if k.Error != "" {
				fmt.Fprintf(w, "    - ERROR: %s\n", sentence(k.Error))
				continue
			}
			fmt.Fprintf(w, "    - %s\n", k.Key)
		}
	}
}
