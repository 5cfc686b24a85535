// gossh is an SSH peer that is not OpenSSH, for the end-to-end tests: Go's own implementation as a client and as a target.
//
//	gossh client KEX CIPHER ADDRESS USER AUTHORITY COMMAND   runs a command; the host must have a certificate of the authority
//	gossh target KEX CIPHER ADDRESS HOST_KEY AUTHORITY       serves commands to whoever has a certificate of the authority
//
// It offers the one key exchange and the one cipher that it was given, so that either is used or nothing works.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/crypto/ssh"
)

func main() {
	if len(os.Args) < 7 {
		fail(errors.New("gossh client|target KEX CIPHER ADDRESS …: see main.go"))
	}
	config := ssh.Config{KeyExchanges: []string{os.Args[2]}, Ciphers: []string{os.Args[3]}}
	switch os.Args[1] {
	case "client":
		os.Exit(client(config, os.Args[4], os.Args[5], os.Args[6], strings.Join(os.Args[7:], " ")))
	case "target":
		target(config, os.Args[4], os.Args[5], os.Args[6])
	default:
		fail(fmt.Errorf("no such part: %s", os.Args[1]))
	}
}

func client(config ssh.Config, address, user, authority, command string) int {
	checker := ssh.CertChecker{IsHostAuthority: func(key ssh.PublicKey, _ string) bool { return same(key, authority) }}
	connection, err := ssh.Dial("tcp", address, &ssh.ClientConfig{
		Config:            config,
		User:              user,
		HostKeyCallback:   checker.CheckHostKey,
		HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01},
	})
	fail(err)
	session, err := connection.NewSession()
	fail(err)
	session.Stdin, session.Stdout, session.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = session.Run(command)
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return exit.ExitStatus()
	}
	fail(err)
	return 0
}

func target(config ssh.Config, address, hostKey, authority string) {
	text, err := os.ReadFile(hostKey)
	fail(err)
	key, err := ssh.ParsePrivateKey(text)
	fail(err)
	checker := ssh.CertChecker{IsUserAuthority: func(key ssh.PublicKey) bool { return same(key, authority) }}
	server := &ssh.ServerConfig{Config: config, PublicKeyCallback: checker.Authenticate}
	server.AddHostKey(key)
	listener, err := net.Listen("tcp", address)
	fail(err)
	fmt.Println("listening")
	for {
		connection, err := listener.Accept()
		fail(err)
		go serve(connection, server)
	}
}

func serve(connection net.Conn, config *ssh.ServerConfig) {
	_, channels, requests, err := ssh.NewServerConn(connection, config)
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	go ssh.DiscardRequests(requests)
	for opening := range channels {
		channel, requests, err := opening.Accept()
		if err != nil {
			return
		}
		go run(channel, requests)
	}
}

func run(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for request := range requests {
		var payload struct{ Command string }
		known := request.Type == "exec" && ssh.Unmarshal(request.Payload, &payload) == nil
		if request.WantReply {
			_ = request.Reply(known, nil)
		}
		if !known {
			continue
		}
		command := exec.Command("/bin/sh", "-c", payload.Command)
		command.Stdout, command.Stderr = channel, channel.Stderr()
		input, err := command.StdinPipe()
		fail(err)
		go func() {
			_, _ = io.Copy(input, channel)
			_ = input.Close()
		}()
		_ = command.Run()
		status := struct{ Status uint32 }{uint32(command.ProcessState.ExitCode())}
		_ = channel.CloseWrite()
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(&status))
		return
	}
}

// same tells whether a key is the one in an authorized_keys line, after an optional marker such as @cert-authority.
func same(key ssh.PublicKey, line string) bool {
	return strings.Contains(line, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "gossh:", err)
		os.Exit(255)
	}
}
