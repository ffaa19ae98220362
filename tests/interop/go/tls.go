package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"

	amqp10 "github.com/Azure/go-amqp"
)

// TLS by AMQP 1.0: a password through it, and a certificate instead of a password.
var tlsCases = []testCase{
	{"messages go through TLS", tlsPassword},
	{"a certificate is as good as a password", tlsCertificate},
	{"without a certificate it is not", tlsNone},
}

// dialTLS connects by TLS_PORT, with the certificate of the user alice or none.
func dialTLS(login amqp10.SASLType, certified bool) (*amqp10.Conn, error) {
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(must(os.ReadFile(os.Getenv("TLS_CA"))))
	settings := &tls.Config{RootCAs: authorities, ServerName: "localhost"}
	if certified {
		own := must(tls.LoadX509KeyPair(os.Getenv("TLS_CERTIFICATE"), os.Getenv("TLS_KEY")))
		settings.Certificates = []tls.Certificate{own}
	}
	place := must(url.Parse(os.Getenv("AMQP_URL"))).Hostname() + ":" + os.Getenv("TLS_PORT")
	return amqp10.Dial(limit(), "amqps://"+place, &amqp10.ConnOptions{SASLType: login, TLSConfig: settings})
}

// through sends a large message through a queue of the connection's own, and takes it.
func through(connection *amqp10.Conn) {
	defer connection.Close()
	session := must(connection.NewSession(limit(), nil))
	receiver := must(session.NewReceiver(limit(), "", &amqp10.ReceiverOptions{DynamicAddress: true, SourceCapabilities: temporary}))
	sender := must(session.NewSender(limit(), receiver.Address(), nil))
	body := make([]byte, 900_000)
	for at := range body {
		body[at] = byte(at) ^ byte(at>>9)
	}
	check(sender.Send(limit(), amqp10.NewMessage(body), nil))
	came := must(receiver.Receive(limit(), nil))
	check(receiver.AcceptMessage(limit(), came))
	equal(came.GetData(), body, "body")
}

func tlsPassword(*session) {
	through(must(dialTLS(amqp10.SASLTypePlain("guest", "guest"), false)))
}

func tlsCertificate(*session) {
	through(must(dialTLS(amqp10.SASLTypeExternal(""), true)))
}

func tlsNone(*session) {
	_, err := dialTLS(amqp10.SASLTypeExternal(""), false)
	equal(err != nil, true, "a refusal")
}
