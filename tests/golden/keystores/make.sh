#!/bin/sh
# Makes the stores of this directory anew, with openssl and keytool as they are on the machine.
# The keys are worth nothing: they exist for tests, and their password stands here.
set -eu
cd "$(dirname "$0")"
PASS=store-pass
DAYS=36500
rm -f ./*.pem ./*.p12 ./*.jks

openssl ecparam -name prime256v1 -genkey -noout -out root.key
openssl req -x509 -new -key root.key -days $DAYS -subj "/O=Example/CN=Root" -out root.pem
openssl ecparam -name prime256v1 -genkey -noout -out issuer.key
openssl req -new -key issuer.key -subj "/O=Example/CN=Issuer" -out issuer.csr
printf 'basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\n' > issuer.ext
openssl x509 -req -in issuer.csr -CA root.pem -CAkey root.key -set_serial 2 -days $DAYS -extfile issuer.ext -out issuer.crt
openssl ecparam -name prime256v1 -genkey -noout -out server.key.sec1
openssl pkcs8 -topk8 -nocrypt -in server.key.sec1 -out server.key
openssl req -new -key server.key -subj "/C=US/O=Example, Inc/CN=server" -out server.csr
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' > server.ext
openssl x509 -req -in server.csr -CA issuer.crt -CAkey issuer.key -set_serial 3 -days $DAYS -extfile server.ext -out server.crt

cat server.key server.crt issuer.crt > server.pem
cat server.crt issuer.crt server.key.sec1 > server-sec1.pem
openssl pkcs8 -topk8 -v2 aes-256-cbc -in server.key -passout pass:$PASS -out server.key.enc
cat server.key.enc server.crt issuer.crt > server-encrypted.pem
cat root.pem issuer.crt > trust.pem

openssl pkcs12 -export -inkey server.key -in server.crt -certfile issuer.crt -name server -passout pass:$PASS -out server-openssl.p12
openssl pkcs12 -export -legacy -inkey server.key -in server.crt -certfile issuer.crt -name server -passout pass:$PASS \
    -out server-openssl-legacy.p12
openssl pkcs12 -export -nokeys -in trust.pem -passout pass:$PASS -out trust-openssl.p12
for type in jks pkcs12; do
    extension=$(echo $type | sed s/pkcs12/p12/)
    keytool -importkeystore -noprompt -srckeystore server-openssl.p12 -srcstoretype pkcs12 -srcstorepass $PASS \
        -destkeystore server-keytool.$extension -deststoretype $type -deststorepass $PASS
    keytool -importcert -noprompt -alias root -file root.pem -keystore trust-keytool.$extension -storetype $type -storepass $PASS
    keytool -importcert -noprompt -alias issuer -file issuer.crt -keystore trust-keytool.$extension -storetype $type -storepass $PASS
done
# What keytool makes today when it is told no type, whatever the file is called.
cp server-keytool.p12 server-keytool-default.jks
cp server-keytool.jks other-password.jks
keytool -keypasswd -storetype jks -alias server -keystore other-password.jks -storepass $PASS -keypass $PASS -new another-pass
rm -f ./*.key ./*.csr ./*.ext ./*.crt ./*.sec1 ./*.enc ./*.srl
