// Command kube-api runs, in one process and without containers, an embedded etcd and the real kube-apiserver on
// 127.0.0.1, for tests: RBAC, admission, validation and server-side apply are there; no controller, scheduler or kubelet is.
// When it is ready it prints the kubeconfig's path (user admin) and runs until SIGTERM. Keys, tokens and data stay in -dir, so
// who was a client before is one after a restart too.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

var (
	port = flag.Int("port", 0, "API server port on 127.0.0.1 (0: any free one)")
	dir  = flag.String("dir", "", "folder for keys, kubeconfig and data (default: a temporary one, removed at exit)")
	logs = flag.Bool("logs", false, "show the servers' own log on stderr")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kube-api:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	signalled := make(chan os.Signal, 1)
	signal.Notify(signalled, syscall.SIGTERM, syscall.SIGINT)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	etcdLog := "error"
	if !*logs {
		etcdLog = "fatal"
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		klog.InitFlags(fs)
		fs.Set("logtostderr", "false")
		fs.Set("stderrthreshold", "FATAL")
		klog.SetOutput(io.Discard)
	}
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "kube-api-"); err != nil {
			return err
		}
		defer os.RemoveAll(*dir)
	}
	if *dir, err = filepath.Abs(*dir); err != nil {
		return err
	}
	if *port == 0 {
		*port = freePort()
	}
	// Written last: where it is, the rest is too.
	kubeconfig := in("kubeconfig")
	server := fmt.Sprintf("https://127.0.0.1:%d", *port)
	if _, err := os.Stat(kubeconfig); errors.Is(err, os.ErrNotExist) {
		if err := makeAccess(kubeconfig, server); err != nil {
			return err
		}
	}

	ec := embed.NewConfig()
	ec.Dir, ec.LogLevel, ec.UnsafeNoFsync = in("etcd"), etcdLog, true
	client := url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", freePort())}
	peer := url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", freePort())}
	ec.ListenClientUrls, ec.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	ec.ListenPeerUrls, ec.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	ec.InitialCluster = ec.InitialClusterFromName(ec.Name)
	etcd, err := embed.StartEtcd(ec)
	if err != nil {
		return err
	}
	defer etcd.Close()
	select {
	case <-etcd.Server.ReadyNotify():
	case err := <-etcd.Err():
		return err
	}

	so := options.NewServerRunOptions()
	if err := parse(so.Flags(),
		"--etcd-servers="+client.String(),
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", *port),
		"--endpoint-reconciler-type=none", // 127.0.0.1 is no valid endpoint
		"--service-cluster-ip-range=10.0.0.0/24",
		"--tls-cert-file="+in("server.crt"), "--tls-private-key-file="+in("server.key"),
		"--token-auth-file="+in("tokens.csv"),
		"--service-account-issuer="+server,
		"--service-account-key-file="+in("sa.key"), "--service-account-signing-key-file="+in("sa.key"),
		"--requestheader-client-ca-file="+in("ca.crt"), "--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+in("front-proxy.crt"), "--proxy-client-key-file="+in("front-proxy.key"),
		"--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
	); err != nil {
		return err
	}
	if err := so.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	opts, err := so.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := opts.Validate(); len(errs) > 0 {
		return errs[0]
	}
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx, opts) }()

	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	cs, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	for {
		if _, err := cs.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err == nil {
			break
		}
		select {
		case err := <-done:
			return err
		case <-signalled: // the servers abort when stopped half-started
			return errors.New("stopped before it was ready")
		case <-time.After(20 * time.Millisecond):
		}
	}
	fmt.Println(kubeconfig)
	go func() { <-signalled; stop() }()
	return <-done
}

// makeAccess writes keys, the admin's token and the kubeconfig.
func makeAccess(kubeconfig, server string) error {
	if err := makeKeys(); err != nil {
		return err
	}
	token := rand.Text()
	if err := os.WriteFile(in("tokens.csv"), []byte(token+",admin,admin,system:masters\n"), 0o600); err != nil {
		return err
	}
	kc := api.NewConfig()
	kc.Clusters["kube-api"] = &api.Cluster{Server: server, CertificateAuthority: in("ca.crt")}
	kc.AuthInfos["admin"] = &api.AuthInfo{Token: token}
	kc.Contexts["kube-api"] = &api.Context{Cluster: "kube-api", AuthInfo: "admin"}
	kc.CurrentContext = "kube-api"
	return clientcmd.WriteToFile(*kc, kubeconfig)
}

// parse reads args into one component's named flag sets.
func parse(sets cliflag.NamedFlagSets, args ...string) error {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, f := range sets.FlagSets {
		fs.AddFlagSet(f)
	}
	return fs.Parse(args)
}

func in(name string) string { return filepath.Join(*dir, name) }

func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// makeKeys writes a CA, the service-account key and the certificates it signs.
func makeKeys() error {
	if _, err := newKey("sa"); err != nil {
		return err
	}
	caKey, err := newKey("ca")
	if err != nil {
		return err
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube-api"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	if err := sign("ca", ca, ca, caKey, caKey); err != nil {
		return err
	}
	for i, name := range []string{"server", "front-proxy"} {
		key, err := newKey(name)
		if err != nil {
			return err
		}
		t := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 2)),
			Subject:   pkix.Name{CommonName: name},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost", "kubernetes.default.svc"}}
		if err := sign(name, t, ca, key, caKey); err != nil {
			return err
		}
	}
	return nil
}

func newKey(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	pem, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, err
	}
	return key, keyutil.WriteKey(in(name+".key"), pem)
}

func sign(name string, t, ca *x509.Certificate, key, caKey *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, t, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	pem, err := cert.EncodeCertificates(c)
	if err != nil {
		return err
	}
	return cert.WriteCert(in(name+".crt"), pem)
}
