// A control plane made of go-control-plane: it serves the snapshots that it reads from its
// standard input, and prints what the proxy answers.
//
// One JSON object a line in each direction. Read are
//
//	{"do": "serve", "version": "1", "resources": [{"@type": "type.googleapis.com/…", …}, …]}
//	{"do": "cut"}
//
// where "cut" closes every connection. Printed are "listening" with an address, "open" and
// "closed" for each stream, and "ack" and "nack" with the type, the version and the message.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"sync"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secrets "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	// Each import makes the types known that resources may hold.
	_ "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// Every node is served the same.
type everyNode struct{}

const node = "all"

func (everyNode) ID(*core.Node) string { return node }

type command struct {
	Do        string            `json:"do"`
	Version   string            `json:"version"`
	Resources []json.RawMessage `json:"resources"`
}

type event struct {
	Event   string `json:"event"`
	Address string `json:"address,omitempty"`
	Type    string `json:"type,omitempty"`
	Version string `json:"version,omitempty"`
	Message string `json:"message,omitempty"`
}

var output sync.Mutex

func tell(one event) {
	line, err := json.Marshal(one)
	if err != nil {
		log.Fatal(err)
	}
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(line))
}

func main() {
	address := flag.String("address", "127.0.0.1:0", "where to listen")
	flag.Parse()
	plain, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	listener := &cuttable{Listener: plain, open: map[net.Conn]struct{}{}}
	snapshots := cache.NewSnapshotCache(true, everyNode{}, nil)
	services := server.NewServer(context.Background(), snapshots, answers{versions: map[string]string{}}.callbacks())
	calls := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(calls, services)
	secrets.RegisterSecretDiscoveryServiceServer(calls, services)
	go func() { log.Fatal(calls.Serve(listener)) }()
	tell(event{Event: "listening", Address: plain.Addr().String()})

	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if err := obey(lines.Bytes(), snapshots, listener); err != nil {
			log.Fatal(err)
		}
	}
}

func obey(line []byte, snapshots cache.SnapshotCache, listener *cuttable) error {
	var one command
	if err := json.Unmarshal(line, &one); err != nil {
		return err
	}
	switch one.Do {
	case "cut":
		listener.cut()
		return nil
	case "serve":
		snapshot, err := snapshot(one)
		if err != nil {
			return err
		}
		return snapshots.SetSnapshot(context.Background(), node, snapshot)
	}
	return fmt.Errorf("unknown command %q", one.Do)
}

func snapshot(one command) (*cache.Snapshot, error) {
	resources := map[string][]types.Resource{}
	for _, text := range one.Resources {
		var packed anypb.Any
		if err := protojson.Unmarshal(text, &packed); err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		message, err := packed.UnmarshalNew()
		if err != nil {
			return nil, err
		}
		resources[packed.TypeUrl] = append(resources[packed.TypeUrl], message)
	}
	snapshot, err := cache.NewSnapshot(one.Version, resources)
	if err != nil {
		return nil, err
	}
	// A type without resources has a version all the same: the removal of the last one is told.
	for kind := range snapshot.Resources {
		snapshot.Resources[kind].Version = one.Version
	}
	return snapshot, nil
}

// What the proxy answers, with the version of each response that is not answered yet.
type answers struct{ versions map[string]string }

func (a answers) callbacks() server.CallbackFuncs {
	var lock sync.Mutex
	sent := func(stream int64, nonce, version string) {
		lock.Lock()
		defer lock.Unlock()
		a.versions[fmt.Sprint(stream, nonce)] = version
	}
	heard := func(stream int64, nonce, kind string, refused bool, message string) {
		lock.Lock()
		key := fmt.Sprint(stream, nonce)
		version, known := a.versions[key]
		delete(a.versions, key)
		lock.Unlock()
		switch {
		case refused:
			tell(event{Event: "nack", Type: kind, Version: version, Message: message})
		case known:
			tell(event{Event: "ack", Type: kind, Version: version})
		}
	}
	open := func(context.Context, int64, string) error {
		tell(event{Event: "open"})
		return nil
	}
	closed := func(int64, *core.Node) { tell(event{Event: "closed"}) }
	return server.CallbackFuncs{
		StreamOpenFunc:        open,
		DeltaStreamOpenFunc:   open,
		StreamClosedFunc:      closed,
		DeltaStreamClosedFunc: closed,
		StreamResponseFunc: func(_ context.Context, stream int64, _ *discovery.DiscoveryRequest, response *discovery.DiscoveryResponse) {
			sent(stream, response.GetNonce(), response.GetVersionInfo())
		},
		StreamDeltaResponseFunc: func(stream int64, _ *discovery.DeltaDiscoveryRequest, response *discovery.DeltaDiscoveryResponse) {
			sent(stream, response.GetNonce(), response.GetSystemVersionInfo())
		},
		StreamRequestFunc: func(stream int64, request *discovery.DiscoveryRequest) error {
			heard(stream, request.GetResponseNonce(), request.GetTypeUrl(), request.ErrorDetail != nil, request.GetErrorDetail().GetMessage())
			return nil
		},
		StreamDeltaRequestFunc: func(stream int64, request *discovery.DeltaDiscoveryRequest) error {
			heard(stream, request.GetResponseNonce(), request.GetTypeUrl(), request.ErrorDetail != nil, request.GetErrorDetail().GetMessage())
			return nil
		},
	}
}

// A listener whose connections can be closed all at once.
type cuttable struct {
	net.Listener
	lock sync.Mutex
	open map[net.Conn]struct{}
}

func (c *cuttable) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	c.open[conn] = struct{}{}
	return conn, nil
}

func (c *cuttable) cut() {
	c.lock.Lock()
	defer c.lock.Unlock()
	for conn := range c.open {
		conn.Close()
		delete(c.open, conn)
	}
}
